"""What the package logs, said on standard error: what is fetched, what a file of weights held, what is left out."""

import logging


class _Speech(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from voxmoe.cli import show

        show.err.print(record.getMessage())


def speak_logs() -> None:
    """Say what is logged from INFO on."""
    logger = logging.getLogger("voxmoe")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Speech) for handler in logger.handlers):
        logger.addHandler(_Speech())
