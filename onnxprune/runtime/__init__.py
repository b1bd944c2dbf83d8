"""ONNX Runtime: sessions, isolated runs, comparison and measurement. The only room that imports onnxruntime."""
