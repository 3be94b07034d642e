"""What a weight file is made of, found without loading it: a file from a stranger is walked through first.

torch.load(weights_only=True) runs no foreign code, but it builds whatever it is told to: half a kilobyte can
ask for terabytes, or for a list that holds itself. So the pickle, the file's list of names, numbers and
tensors, is read here as the small program that it is: word by word, on a stack of notes about sizes.
What comes through is a tree of plain values and dense tensors that are no larger than their file.
"""
import math
import pickletools
from dataclasses import dataclass, field

import torch

MOST_LEAVES = 1_000_000         # values of the whole tree, as if what occurs twice were written twice
MOST_DEPTH = 50                 # levels; checkpoints have about 8
MOST_WORDS = 100_000            # of the pickle, and ...
WORDS_A_RECORD = 100            # ... so many more for each tensor (one needs about 40)
LETTERS_A_LEAF = 16             # a long text counts as several values
MOST_VIEWED = 4                 # times the file's bytes that all its tensors together may show
KEY = 2**31                     # whole numbers below it may be the keys of a dict
SIZES = {"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
         "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
         "ComplexDoubleStorage": 16, "ComplexFloatStorage": 8, "UntypedStorage": 1}      # bytes a number
STORAGES = {f"{'torch.storage' if name == 'UntypedStorage' else 'torch'}.{name}": size
            for name, size in SIZES.items()}
TENSORS = {f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3")}
PARAMETER = "torch._utils._rebuild_parameter"
OTHERS = {"collections.OrderedDict", "torch.Size", "torch.device", "_codecs.encode", "builtins.set",
          "torch.nn.parameter.Parameter", "torch.Tensor"}


class Refused(Exception):
    """Why a pickle is not loaded.

    foreign: names of code that it would call; greedy: whether it could fill the memory.
    """

    def __init__(self, why, foreign=(), greedy=False):
        super().__init__(why)
        self.foreign, self.greedy = tuple(foreign), greedy


@dataclass(slots=True)
class Note:
    """What is known about a value that was not built."""
    kind: str                           # plain int text bytes tuple list dict name storage tensor empty
    value: object = None                # of an int, a text, a name; of a storage (numbers, bytes a number)
    leaves: int = 1                     # of the tree below it
    depth: int = 0
    open: bool = False                  # a list or dict that is still being filled
    parts: tuple = ()                   # of a tuple


@dataclass
class Walk:
    """How far the reading is."""
    records: dict                       # storage key -> bytes that the file has for it; None: not known here
    room: int                           # bytes of the file
    stack: list = field(default_factory=list)
    marks: list = field(default_factory=list)
    memo: dict = field(default_factory=dict)
    foreign: set = field(default_factory=set)
    viewed: int = 0                     # bytes that the tensors show
    claimed: int = 0                    # bytes of the storages, where the records are not known


def walk(pickle, room, records=None, most=MOST_WORDS):
    """Read one pickle to its end. -> Note of what it holds.

    pickle: an open binary file, or bytes.  room: bytes of the whole file.
    records: dict key -> bytes of the storages of a zip archive; None: an older file, which has them behind.
    Refused: it holds more than plain values and dense tensors, or more than the file has room for.
    """
    state = Walk(records, room)
    for count, (word, argument, _) in enumerate(pickletools.genops(pickle)):
        if count > most + WORDS_A_RECORD * len(records or ()):
            raise Refused("its list of names has too many entries", greedy=True)
        if word.name == "STOP":
            break
        take_word(state, word.name, argument)

    # A file that would call foreign code is refused for that, whatever else it does.
    if state.foreign:
        raise Refused("foreign code", state.foreign)
    (whole,) = state.stack
    return whole


def take_word(state, word, argument):
    """One word of the pickle."""
    # What stands for a value, then what does something with the values on the stack.
    if word in CONSTANTS:
        state.stack.append(Note("plain"))
    elif word in ("BININT", "BININT1", "BININT2", "LONG1"):
        state.stack.append(Note("int", argument))
    elif word in ("BINUNICODE", "SHORT_BINSTRING", "SHORT_BINUNICODE"):
        state.stack.append(Note("text", argument, 1 + len(argument) // LETTERS_A_LEAF))
    elif word in EMPTY:
        state.stack.append(Note(EMPTY[word], open=word != "EMPTY_TUPLE"))

    # The memo: the same value again.
    elif word in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
        state.memo[len(state.memo) if argument is None else argument] = top(state)
    elif word in ("BINGET", "LONG_BINGET"):
        state.stack.append(state.memo[argument])
    elif word in ("GLOBAL", "STACK_GLOBAL"):
        read_name(state, word, argument)
    elif word in ACTIONS:
        ACTIONS[word](state)
    elif word not in ("PROTO", "FRAME"):
        raise Refused(f"its list of names uses {word}, which weights never need")


def read_name(state, word, argument):
    """The name of a class or function; one that weights do not need is kept for the error."""
    if word == "STACK_GLOBAL":
        module, name = pop(state, 2)
        full = f"{module.value}.{name.value}"
    else:
        full = argument.replace(" ", ".", 1)

    # Known ones and the types of numbers, like torch.float32.
    full = full.replace("__builtin__.", "builtins.", 1)     # as Python 2 called it

    known = full in STORAGES or full in TENSORS or full == PARAMETER or full in OTHERS
    is_type = full.startswith("torch.") and isinstance(getattr(torch, full[6:], None), torch.dtype)
    if not known and not is_type:
        state.foreign.add(full[:100])
    state.stack.append(Note("name", full))


def pop(state, count):
    """The last notes on the stack, down to the last mark at most."""
    at = len(state.stack) - count
    if at < (state.marks[-1] if state.marks else 0):
        raise Refused("its list of names is not complete")
    found = state.stack[at:]
    del state.stack[at:]
    return found


def top(state):
    """The last note on the stack, which stays there."""
    (note,) = pop(state, 1)
    state.stack.append(note)
    return note


def to_mark(state):
    """What was put on the stack since the last mark."""
    at = state.marks.pop()
    found = state.stack[at:]
    del state.stack[at:]
    return found


def put_into(state, target, notes, what):
    """Put values into a list, a dict or a tuple that is being made."""
    if state.foreign:                                   # it is refused anyway, with all the names in it
        return target
    if target.kind != what:
        raise Refused(f"it adds values to something that is no {what}")

    # What is in something is closed: had it been added to later, it could hold itself.
    if not target.open or any(note is target for note in notes):
        raise Refused("a part of it holds itself", greedy=True)
    for note in notes:
        note.open = False
        target.leaves += note.leaves
        target.depth = max(target.depth, note.depth + 1)

    # A few lists that hold each other twice make billions when they are printed or compared.
    if target.leaves > MOST_LEAVES or target.depth > MOST_DEPTH:
        raise Refused("its values are nested too deeply or repeated too often", greedy=True)
    return target


def fill_dict(state, pairs):
    """The last thing on the stack is a dict, and gets keys and values."""
    for key in pairs[::2]:
        simple = key.kind in ("text", "bytes") or key.kind == "int" and abs(key.value) < KEY
        few = key.kind == "tuple" and key.depth < 2 and key.leaves < 9
        if not simple and not few:
            raise Refused("the key of a dict is neither text nor a small number")
    put_into(state, top(state), pairs, "dict")


def fill_list(state, notes):
    """The last thing on the stack is a list, and gets values."""
    put_into(state, top(state), notes, "list")


def make_tuple(state, notes):
    whole = put_into(state, Note("tuple", open=True, parts=tuple(notes)), notes, "tuple")
    whole.open = False
    state.stack.append(whole)


def call(state):
    """A class or function is called. -> only what weights need is understood."""
    name, arguments = pop(state, 2)
    if state.foreign:
        state.stack.append(Note("plain"))
    else:
        state.stack.append(result(state, name.value if name.kind == "name" else None, arguments))


def result(state, name, arguments):
    """Note of what name(*arguments) would be."""
    parts = arguments.parts
    if name in TENSORS:
        return tensor(state, *parts[:4])
    if name == PARAMETER and parts and parts[0].kind == "tensor":
        return parts[0]
    if name == "collections.OrderedDict" and not parts:
        return Note("dict", open=True)
    if name == "torch.Size" and len(parts) == 1:
        return parts[0]
    if name == "torch.device" and parts and parts[0].kind == "text":
        return Note("plain")

    # How protocol 2 writes bytes, which must not be used to make bytes of bytes.
    kinds = [part.kind for part in parts]
    if name == "_codecs.encode" and kinds == ["text", "text"] and parts[1].value == "latin1":
        return Note("bytes", None, parts[0].leaves)
    if name == "builtins.set" and kinds == ["list"] and parts[0].depth <= 1:
        return Note("plain", None, parts[0].leaves, 1)
    raise Refused(f"it calls {name or 'something'} in a way in which weights never need it", greedy=True)


def tensor(state, storage, offset, size, stride):
    """Note of a view of a storage. Refused: it shows numbers that the storage does not have."""
    sides, steps = ([part.value for part in one.parts] for one in (size, stride))
    numbers = [offset.value, *sides, *steps]
    if storage.kind != "storage" or len(sides) != len(steps) or not all(map(is_count, numbers)):
        raise Refused("a tensor's size is not written as PyTorch does it")

    # Strides of 0 make billions of one number.
    held, each = storage.value
    count = math.prod(sides)
    last = offset.value + sum((side - 1) * step for side, step in zip(sides, steps)) if count else 0
    if count > held or last >= max(held, 1):
        raise Refused(f"it holds a tensor of {count:,} numbers that is made of {held:,}", greedy=True)

    # So do thousands of tensors that show the same ones.
    state.viewed += count * each
    if state.viewed > MOST_VIEWED * state.room:
        raise Refused("its tensors show the same numbers again and again", greedy=True)
    return Note("tensor")


def is_count(value):
    return isinstance(value, int) and 0 <= value < 2**62


def storage(state):
    """The numbers of a tensor, which are elsewhere in the file. Refused: not as many as it claims."""
    (pid,) = pop(state, 1)
    parts = [part.value for part in pid.parts]
    if state.foreign and parts[:1] == ["module"]:           # the source of a foreign class, in old files
        state.stack.append(Note("empty"))
        return
    if len(parts) < 5 or parts[0] != "storage" or not is_count(parts[4]):
        raise Refused("a tensor's numbers are not kept as PyTorch does it")

    # How many bytes there are for it, and how many it claims.
    if parts[1] not in STORAGES:
        state.foreign.add(str(parts[1])[:100])
    each = STORAGES.get(parts[1], 1)
    there = state.room - state.claimed if state.records is None else state.records.get(parts[2], 0)
    needed = parts[4] * each
    if needed > there:
        raise Refused(f"it claims {needed:,} bytes for a tensor, the file has {max(there, 0):,}", greedy=True)

    # Each key once: several tensors may show one storage.
    if state.records is None and ("storage", parts[2]) not in state.memo:
        state.memo["storage", parts[2]] = None
        state.claimed += needed
    state.stack.append(Note("storage", (parts[4], each)))


def build(state):
    """The state of an object: attributes of a dict, or the data of a tensor as PyTorch once wrote it."""
    (extra,) = pop(state, 1)
    target = top(state)
    if target.kind == "dict":
        put_into(state, target, [extra], "dict")
    elif target.kind == "empty" and extra.parts and extra.parts[0].kind == "storage":
        tensor(state, *extra.parts[:4])
        target.kind = "tensor"
    elif target.kind == "empty" and extra.parts and extra.parts[0].kind == "tensor":
        target.kind = "tensor"
    elif not state.foreign:
        raise Refused("it gives a state to something that weights do not have")


def new(state):
    """An empty tensor, as PyTorch wrote it until 2018; its data follow."""
    name, arguments = pop(state, 2)
    if name.value not in ("torch.nn.parameter.Parameter", "torch.Tensor") or arguments.parts:
        state.foreign.add(str(name.value)[:100])
    state.stack.append(Note("empty"))


CONSTANTS = {"NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT"}
EMPTY = {"EMPTY_TUPLE": "tuple", "EMPTY_LIST": "list", "EMPTY_DICT": "dict"}
ACTIONS = {
    "MARK": lambda state: state.marks.append(len(state.stack)),
    "TUPLE": lambda state: make_tuple(state, to_mark(state)),
    "TUPLE1": lambda state: make_tuple(state, pop(state, 1)),
    "TUPLE2": lambda state: make_tuple(state, pop(state, 2)),
    "TUPLE3": lambda state: make_tuple(state, pop(state, 3)),
    "APPEND": lambda state: fill_list(state, pop(state, 1)),
    "APPENDS": lambda state: fill_list(state, to_mark(state)),
    "SETITEM": lambda state: fill_dict(state, pop(state, 2)),
    "SETITEMS": lambda state: fill_dict(state, to_mark(state)),
    "REDUCE": call,
    "NEWOBJ": new,
    "BUILD": build,
    "BINPERSID": storage,
}
