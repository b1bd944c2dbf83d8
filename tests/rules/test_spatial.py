"""Pools, resizes and samplers leave channels alone and fix the space that their windows slide over."""

from __future__ import annotations

import pytest

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse

POOLS = ["GlobalAveragePool(h)", "GlobalMaxPool(h)", "GlobalLpPool(h)", "AveragePool<kernel_shape=[2,2]>(h)",
         "MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(h)", "LpPool<kernel_shape=[2,2]>(h)",
         "AveragePool<kernel_shape=[3,3],ceil_mode=1,strides=[2,2],count_include_pad=1>(h)"]  # fmt: skip

CUTS = [
    Cuts("Resize by scales", image("g = Resize(h, _, {1.0,1.0,2.0,2.0})"), {"W": 8}),
    Cuts("Resize by linear scales", image("g = Resize<mode=\"linear\">(h, _, {1.0,1.0,2.0,2.0})"), {"W": 8}),
    Cuts("Resize to constant sizes", image("g = Resize(h, _, _, {1,8,12,12})").replace("N,", "1,"), {"W": 8}),
    Cuts("Resize to computed sizes", image("s = Shape<end=2>(h); t = Concat<axis=0>(s, {12,12});"
                                           "g = Resize(h, _, _, t)"), {"W": 8}),
    Cuts("Resize to computed sizes of a constant channel", image(
        "s = Shape<end=1>(h); t = Concat<axis=0>(s, {8,12,12}); g = Resize(h, _, _, t)"), {"W": 8}),
    Cuts("Resize of named axes", image("g = Resize<axes=[2,3]>(h, _, _, {12,12})"), {"W": 8}, opset=18),
    Cuts("Resize to the size of another", image("k = Conv(x, U[5,3,3,3]); s = Shape<start=2>(h); e = Shape<end=2>(k);"
         "t = Concat<axis=0>(e, s); r = Resize(k, _, _, t); g = Concat<axis=1>(h, r)", reads=13), {"W": 8, "U": 5}),
    Cuts("Resize of named axes, the channels among them", image("g = Resize<axes=[-1,1,-2]>(h, _, _, {12,8,10})"),
         {"W": 8}, opset=18),
    Cuts("Resize that keeps the aspect", image("g = Resize<axes=[2,3],keep_aspect_ratio_policy=\"not_larger\">"
                                               "(h, _, _, {12,9})"), {"W": 8}, opset=18),
    Cuts("Resize that crops", image("g = Resize<axes=[2,3],coordinate_transformation_mode=\"tf_crop_and_resize\","
         "mode=\"linear\">(h, {0.1,0.1,0.8,0.8}, _, {5,5})"), {"W": 8}, opset=18),
    Cuts("Resize with channels last", "x[N,4,4,6] -> y; h = MatMul(x, W[6,8]);"
         "g = Resize(h, _, {1.0,2.0,2.0,1.0}); y = MatMul(g, V[8,3])", {"W": 8}),
    Cuts("Col2Im", "x[N,6,9] -> y; t = Transpose<perm=[0,2,1]>(x); h = MatMul(t, W[6,32]);"
         "s = Transpose<perm=[0,2,1]>(h); c = Col2Im(s, {4,4}, {2,2}); y = Conv(c, V[3,8,1,1])", {"W": 8}, opset=18),
    Cuts("CenterCropPad in space", image("g = CenterCropPad<axes=[2,3]>(h, {4,9})"), {"W": 8}, opset=18),
    Cuts("CenterCropPad of all axes", image("g = CenterCropPad(h, {1,8,4,4})").replace("N,", "1,"), {"W": 8}, opset=18),
    Cuts("AffineGrid beside", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); m = GlobalAveragePool(h);"
         "f = Flatten(m); t = MatMul(f, T[8,6]); r = Reshape(t, {0,2,3}); s = Shape<end=1>(x);"
         "z = Concat<axis=0>(s, {3,5,5}); a = AffineGrid(r, z); y = GridSample(x, a)", {"W": 8}, opset=20),
    Cuts("Upsample", image("g = Upsample(h, {1.0,1.0,2.0,2.0})"), {"W": 8}, opset=9),
    Cuts("GridSample", image("g = GridSample(h, K[1,2,2,2])", ).replace("N,", "1,"), {"W": 8}),
    Cuts("RoiAlign", image("g = RoiAlign<output_height=2,output_width=2>(h, R{0.0,0.0,3.0,3.0}[1,4], {0})"), {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("space that a pool slides over", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); u = Unsqueeze(h, {1});"
            "p = MaxPool<kernel_shape=[1,2]>(u); y = ReduceMax<axes=[3]>(p)", {"W.1": "window"}),
    Refuses("channels that keep the aspect of space", image("g = Resize<axes=[1,2,3],keep_aspect_ratio_policy="
            "\"not_smaller\">(h, _, _, {8,6,6})"), {"W.0": "resized"}, 18),
    Refuses("channels that are cropped", image("g = CenterCropPad<axes=[1]>(h, {6})", reads=6), {"W.0": "cropped"}, 18),
    Refuses("places of a window", "x[N,6,9] -> y; t = Transpose<perm=[0,2,1]>(x); h = MatMul(t, W[6,32]);"
            "s = Transpose<perm=[0,2,1]>(h); c = Col2Im(s, {4,4}, {2,2}); y = Conv(c, V[3,8,1,1])",
            {"W.1": "the places of a window"}, 18),
    Refuses("coordinates of a grid", "x[2,3,6,6], z[2,5] -> y; t = MatMul(z, T[5,6]); r = Reshape(t, {2,2,3});"
            "a = AffineGrid(r, {2,3,5,5}); y = GridSample(x, a)", {"T.1": "coordinates"}, 20),
    Refuses("channels that are resized", image("g = Resize(h, _, {1.0,2.0,1.0,1.0})", reads=16), {"W.0": "resized"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_leaves_channels_alone(pool: str) -> None:
    prove(Cuts(pool, image(f"g = {pool}"), {"W": 8}))
