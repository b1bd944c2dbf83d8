"""What can be known and done about one layer from the second moments of its input: matrices in, matrices out."""

from onnxprune.solvers.exact import WIDEST, masked_least_squares, trace
from onnxprune.solvers.inverse import DAMPING, damped, damped_inverse, heard, upper_factor
from onnxprune.solvers.regression import coordinate_descent, interactions, lasso_path, thinet
from onnxprune.solvers.saliency import obd, obs, sequential
from onnxprune.solvers.sparsegpt import Select, sparsegpt
from onnxprune.solvers.structured import Reader, Removal, leave_one_out, structured_obs

__all__ = [
    "DAMPING",
    "WIDEST",
    "Reader",
    "Removal",
    "Select",
    "coordinate_descent",
    "damped",
    "damped_inverse",
    "heard",
    "interactions",
    "lasso_path",
    "leave_one_out",
    "masked_least_squares",
    "obd",
    "obs",
    "sequential",
    "sparsegpt",
    "structured_obs",
    "thinet",
    "trace",
    "upper_factor",
]
