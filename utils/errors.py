"""A mistake of the user ends in one sentence, not in a traceback."""
import difflib
import os
import sys


class UserError(Exception):
    """Something the user can fix: the message says what is wrong, where, and what to do.

    kind: for faults in data, a name of the table in utils/findings.py.
    """

    def __init__(self, *message, kind=None):
        super().__init__(*message)
        self.kind = kind


class NoWeights(UserError):
    """Official weights that do not exist or did not arrive: who did not ask for them begins without."""


def did_you_mean(name, known):
    """' Did you mean "x"?' for the nearest of the known names, or '' when none is near."""
    near = difflib.get_close_matches(str(name)[:100], [str(k) for k in known], n=1, cutoff=0.5)
    return f' Did you mean "{near[0]}"?' if near else ""


def show_sentence_only(kind, error, trace):
    """An excepthook: a UserError prints its sentence alone (set DEBUG=1 for the traceback as well).

    The exit status stays non-zero. A loader's worker process wraps the message in its own traceback,
    therefore only what follows the last "UserError: " counts.
    """
    debug = os.environ.get("DEBUG")
    if issubclass(kind, UserError) and not debug:
        sentence = str(error).rpartition("UserError: ")[2].strip()
        print(f"\nStopped: {sentence}", file=sys.stderr)
    elif issubclass(kind, OSError) and error.filename and not debug:
        print(f"\nStopped: {error.filename} cannot be used: {error.strerror}.", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("\nStopped by Ctrl-C.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
