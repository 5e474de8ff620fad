"""Everything that can go wrong and is worth telling a person.

The class name is the stable name in JSON errors (`{"error": "ImageUnreadable", "detail": "..."}`);
the message says what happened, to what, and what to do about it.
"""

CONFIG_FAULT = 78  # EX_CONFIG of sysexits.h: a process's word that a restart cannot help


class BackendError(Exception):
    """Base of the tree; `status` is the HTTP answer."""

    status = 500

    @property
    def name(self) -> str:
        """The stable name that crosses the wire."""
        return type(self).__name__


class BadRequest(BackendError):
    """The request's JSON is malformed or lacks something."""

    status = 400


class RequestTooLarge(BackendError):
    """The request's body is larger than one may be."""

    status = 413


class BadLabelConfig(BackendError):
    """The labeling configuration cannot be used: unreadable, with no image, or nothing to fill."""

    status = 400


class BadPrompt(BackendError):
    """A prompt that the text encoder cannot take: empty or too long."""

    status = 400


class NothingToGoBy(BackendError):
    """There is nothing to judge phrases by: no accepted work, no exemplar and no image."""

    status = 409


class ImageRefused(BackendError):
    """The task's image may not be fetched: scheme, host or folder is not allowed."""

    status = 400


class ImageMissing(BackendError):
    """The task's image could not be fetched."""

    status = 404


class ImageUnreadable(BackendError):
    """The bytes are not an image we can decode, or too large a one."""

    status = 400


class Unauthorized(BackendError):
    """Credentials are missing or wrong."""

    status = 401


class QueueUnavailable(BackendError):
    """The broker does not answer."""

    status = 503


class NotReady(BackendError):
    """No worker has its model yet."""

    status = 503


class NowhereToPush(BackendError):
    """What was asked for ends in Label Studio, which this backend does not know."""

    status = 409


class DeadlineExceeded(BackendError):
    """The answer was not ready in time."""

    status = 504


class WorkerLost(BackendError):
    """The worker process died while it held the task, more than once."""

    status = 500


class OutOfMemory(BackendError):
    """There is too little memory for a task's image, on its own too, or for a training."""

    status = 500


class InternalError(BackendError):
    """A defect of ours; the traceback is in the log of the process that met it."""

    status = 500


class LabelStudioError(BackendError):
    """Label Studio cannot be asked, or does not do what it was asked for."""

    status = 502


class LabelStudioUnavailable(LabelStudioError):
    """Label Studio does not answer, or fails itself; the same may work later.

    `after` is in how many seconds, if it said so.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class LabelStudioRefused(LabelStudioError):
    """Label Studio says no, and would again; `answered` is its HTTP status."""

    def __init__(self, message: str, answered: int) -> None:
        super().__init__(message)
        self.answered = answered


class Reported(BackendError):
    """What another process of ours could not do, told by the name and detail of its error.

    The HTTP answer is the one that the error itself would have; 502 if it is not one of ours.
    """

    status = 502

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self._name = name
        kinds = [BackendError]
        while kinds:
            kind = kinds.pop()
            if kind.__name__ == name:
                self.status = kind.status
            kinds += kind.__subclasses__()

    @property
    def name(self) -> str:
        """The name of the error there."""
        return self._name


class NoSuchVersion(BackendError):
    """The project has no version of that name."""

    status = 404


class VersionDamaged(BackendError):
    """A version's files are not what was published; it is never served."""


class VersionRefused(BackendError):
    """A version cannot be treated so in its state."""

    status = 409


class BadPromptBook(BackendError):
    """What should be a prompt book cannot be understood; the message says where."""

    status = 400


class TooLittleData(BackendError):
    """There is too little accepted work to learn from, or a model that cannot learn."""

    status = 409


class AlreadyTraining(BackendError):
    """A project is trained by one process at a time."""

    status = 409


class BadSetting(BackendError):
    """An environment variable or option has a value that cannot be used."""


class BadVocabulary(BadSetting):
    """Words to suggest that cannot be used: unreadable, none, or too many."""


class CheckpointUnavailable(BackendError):
    """The checkpoint cannot be found, reached or loaded."""


class BrokerUnavailable(BackendError):
    """The broker cannot be started, or not be used."""
