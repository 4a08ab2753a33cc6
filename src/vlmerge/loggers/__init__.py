"""Where a run can be watched besides its own page: Weights & Biases, TensorBoard, MLflow. Told from the store alone."""

from __future__ import annotations

from collections.abc import Mapping

from vlmerge.loggers import mlflow_logger, tensorboard_logger, wandb_logger
from vlmerge.loggers.logbook import Logbook, logging_to, require_installed
from vlmerge.loggers.logger import Begun, Logger, Open

LOGGERS: Mapping[str, Open] = {
    "wandb": wandb_logger.open_logger,
    "tensorboard": tensorboard_logger.open_logger,
    "mlflow": mlflow_logger.open_logger,
}
"""Name in a run file → how it is opened. Their packages are imported only then."""

__all__ = ["LOGGERS", "Begun", "Logbook", "Logger", "Open", "logging_to", "require_installed"]
