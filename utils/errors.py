"""A mistake of the user ends in one sentence, not in a traceback."""
import atexit
import contextlib
import difflib
import errno
import os
import re
import sys

from utils import language

STREAM_ERRORS = (OSError, ValueError, AttributeError)  # closed: ValueError; pythonw has none: AttributeError
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))     # no room for a file
# words of errors that mean that there is no more memory: of Python, PyTorch, and the system's loader
MEMORY_WORDS = ("annot allocate memory", "can't allocate memory", "out of memory", "bad_alloc",
                "bad allocation", "failed to map segment", "new thread", "nsufficient memory")

LONGEST_SHOWN = 200             # letters of a value in a message

# Control characters, marks that turn the direction of writing, invisible ones, line ends, halves of letters.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
                      "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]")


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


def shortened(words: str) -> str:
    """Words for a message: of long ones only the beginning."""
    return words if len(words) <= LONGEST_SHOWN else words[:LONGEST_SHOWN - 4] + " ..."


def show_sentence_only(kind, error, trace):
    """An excepthook: a UserError prints its sentence alone (set DEBUG=1 for the traceback as well).

    The exit status stays non-zero. A loader's worker process wraps the message in its own traceback,
    therefore only what follows the last "UserError: " counts.
    """
    debug = os.environ.get("DEBUG")

    # What the user can do something about, from the clearest to the most general.
    if issubclass(kind, UserError) and not debug:
        sentence = str(error).rpartition("UserError: ")[2].strip()
        print(f"\nStopped: {sentence}", file=sys.stderr)
    elif issubclass(kind, BrokenPipeError):                 # as of  python summary.py | head
        mute(sys.stdout, sys.stderr)
    elif is_lack_of_memory(error) and not debug:
        print(f"\nStopped: {lack_of_memory()}", file=sys.stderr)
    elif issubclass(kind, OSError) and error.filename and not debug:
        print(f"\nStopped: {error.filename} cannot be used: {error.strerror}.", file=sys.stderr)
    elif issubclass(kind, OSError) and error.errno in FULL and not debug:      # where the output is sent to
        print(f"\nStopped: the output cannot be written: {error.strerror}.", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("\nStopped by Ctrl-C.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def speak_plainly():
    """From here on a mistake of the user ends in one sentence, which every console can show, in the language
    of the reader."""
    sys.excepthook = show_sentence_only
    language.use(language.asked_for(sys.argv[1:]))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")            # a character that it cannot show becomes ?
    if not isinstance(sys.stdout, Harmless):
        sys.stdout = Harmless(sys.stdout, "\n\t")
    if not isinstance(sys.stderr, Harmless):
        sys.stderr = Harmless(sys.stderr, "\n\t\r")         # a bar goes back

    # What is printed last is on its way when Python ends: then too a closed pipe is no error.
    atexit.unregister(mute_at_exit)
    atexit.register(mute_at_exit)


def harmless(text, kept="\n\t"):
    """Text as it can go out: with its line ends and tabs; only what would steer the terminal changes."""
    return STEERING.sub(lambda found: found[0] if found[0] in kept else ascii(found[0])[1:-1], text)


class Harmless:
    """sys.stdout or sys.stderr, through which nothing goes that steers the terminal.

    Names in files from strangers may: this is the one place that all messages pass. Here they also get
    their language, where the console can show it.
    """

    def __init__(self, stream, kept):
        self.stream, self.kept = stream, kept
        self.chinese = language.can_show(stream)

    def write(self, text):
        text = language.translated(text) if self.chinese else text
        return self.stream.write(text if text.isprintable() else harmless(text, self.kept))

    def __getattr__(self, name):
        return getattr(self.stream, name)


def mute_at_exit():
    error = mute(sys.stdout)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        show_sentence_only(type(error), error, error.__traceback__)
        mute(sys.stderr)
        os._exit(1)                                         # what was said is lost: no success
    mute(sys.stderr)


def mute(*streams):
    """Streams that cannot be written lead nowhere from now on; others are only flushed. -> last error."""
    failed = None
    for stream in streams:
        try:
            stream.flush()
        except STREAM_ERRORS as error:
            failed = error
            with contextlib.suppress(*STREAM_ERRORS):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
    return failed


def is_lack_of_memory(error):
    """Whether an error, or one that led to it, says that the machine gives no more memory."""
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or any(words in text for words in MEMORY_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def lack_of_memory():
    """The sentence for it."""
    limit = ""
    with contextlib.suppress(ImportError):
        import resource  # not on Windows
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            limit = (f" This shell allows a program {most / 2**30:.1f} GiB (ulimit -v), of which PyTorch "
                     "alone reserves about 4: try  ulimit -v unlimited  first.")
    return ("there is no more memory for this program. Close others, or choose a smaller batch_size, "
            f"input_shape or num_workers.{limit}")
