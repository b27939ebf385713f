"""The errors a user can cause: each says where, what was found, what was expected and what to do."""


class SpatiaError(Exception):
    """Base of every refusal. The command line prints it in one line and exits with 2."""


class SlideError(SpatiaError):
    """A vendor folder, image, table or samplesheet cannot be read as a slide."""


class CorpusError(SpatiaError):
    """A corpus on disk is missing, incomplete, damaged or of another format version."""


class SettingsError(SpatiaError):
    """A setting or command-line argument is unknown or out of range."""


class MissingExtraError(SpatiaError):
    """An optional dependency is not installed; the message holds the line that installs it."""


class NotApplicableError(SettingsError):
    """A method of the benchmark cannot be asked this of these data; the others can."""


class TrainingError(SpatiaError):
    """Training cannot start, go on or resume; the last checkpoint stays as it is."""


class ModelError(SpatiaError):
    """A model folder is missing, damaged or does not fit what it is used on."""


class PairingError(SpatiaError):
    """Cells cannot be paired, a plan did not converge, or a folder of pairs is damaged."""


class LeakError(SpatiaError):
    """A benchmark would measure what was leaked: test cells, or what makes them known, are among the training cells."""
