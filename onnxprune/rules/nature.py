"""Operators that no cut can pass through, whatever their attributes: each with the reason that a report gives."""

from __future__ import annotations

from onnxprune.rules.registry import fixed_by_nature

fixed_by_nature("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
                "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
                reason="handles a sequence of tensors, which has no axes")  # fmt: skip
fixed_by_nature("Optional", "OptionalGetElement", "OptionalHasElement",
                reason="handles an optional value, which has no axes")  # fmt: skip
fixed_by_nature("Compress", "Multinomial", "NonMaxSuppression", "NonZero", "Unique", reason="picks by value")
fixed_by_nature("Range", reason="makes as many indices as its values say")
fixed_by_nature("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
                reason="makes its indices anew at every run")  # fmt: skip
fixed_by_nature("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", "EyeLike",
                reason="makes a table whose values depend on its size")  # fmt: skip
fixed_by_nature("ImageDecoder", reason="makes an image from bytes")
fixed_by_nature("StringNormalizer", "StringSplit", "TfIdfVectorizer", reason="works on strings, by value")
