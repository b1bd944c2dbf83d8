"""Independent jobs run here, in processes beside this one, or on a cluster: one seam, and nothing here knows models."""

from onnxprune.executor.choice import cores, executor_of
from onnxprune.executor.cluster import Dask
from onnxprune.executor.here import Here
from onnxprune.executor.processes import Processes
from onnxprune.executor.seam import RETRIES, Executor, WorkerLost

__all__ = ["RETRIES", "Dask", "Executor", "Here", "Processes", "WorkerLost", "cores", "executor_of"]
