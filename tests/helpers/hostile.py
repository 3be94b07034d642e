"""Weight files that somebody made to do harm: families of them, each with several parameters. Nothing of it is a stub: each is a file on the disk."""
import struct
import zipfile

EMPTY_HOOKS = b"ccollections\nOrderedDict\n)R"


def archive(path, *records, packed=False):
    """A file like those of torch.save. records: (name, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, content in (("a/version", b"3\n"), ("a/byteorder", b"little"), *records):
            file.writestr(name, content)


def number(value):
    """A whole number of up to 255 bytes."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word


def call(module, name, *arguments):
    """A pickle that calls module.name(*arguments)."""
    return b"\x80\x02" + called(module, name, *arguments) + b"."


def called(module, name, *arguments):
    return b"c%s\n%s\n(" % (module, name) + b"".join(arguments) + b"tR"


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def view(held, size, stride, offset=0, kind=b"FloatStorage", key=b"0"):
    """A tensor of a storage that claims `held` numbers."""
    storage = b"(" + text(b"storage") + b"ctorch\n" + kind + b"\n" + text(key) + text(b"cpu") + number(held) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(*size) + numbers(*stride) + b"\x89" + EMPTY_HOOKS + b"tR"


def put(place):
    return b"r" + struct.pack("<I", place)


def get(place):
    return b"j" + struct.pack("<I", place)


def laughs(levels, wide, kind):
    """Lists (tuples, dicts) of which each holds the one before several times: `wide` to the power of `levels` leaves."""
    first = {"list": b"]", "tuple": b")", "dict": b"}"}[kind] + put(0)
    content = first
    for level in range(levels):
        refer = get(level)
        if kind == "list":
            content += b"](" + refer * wide + b"e"
        elif kind == "tuple":
            content += b"(" + refer * wide + b"t"
        else:
            content += b"}(" + b"".join(b"K" + bytes([i]) + refer for i in range(wide)) + b"u"
        content += put(level + 1)
    return content


def doubled(times, codec):
    """_codecs.encode of what it gave, again and again."""
    return b"c_codecs\nencode\n" + put(0) + b"(" + text(b"A" * 16) + text(codec) + b"tR" + b"".join(
        put(1) + get(0) + b"(" + get(1) + text(codec) + b"tR" for _ in range(times))


def families():
    """(name, function(path) that writes the file) of each; about two hundred."""
    def packed(content, *more, **options):
        """A pickle in a new file, ..."""
        return lambda path: archive(path, ("a/data.pkl", b"\x80\x02" + content + b"."), ("a/data/0", bytes(16)), *more, **options)

    def old(content):
        """... and in one as before PyTorch 1.6."""
        head = b"\x80\x02" + number(0x1950a86a20f9469cfc6c) + b"." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
        return lambda path: path.write_bytes(head + b"\x80\x02" + content + b".\x80\x02].")

    bodies = {}
    for kind, holder in (("list", b"]" + put(0) + get(0) + b"a"), ("dict", b"}" + put(0) + b"K\x01" + get(0) + b"s"),
                         ("dict by its key", b"}" + put(0) + b"(" + get(0) + b"tK\x01s"), ("tuple", b"]" + put(0) + b"(" + get(0) + b"ta"),
                         ("ordered", EMPTY_HOOKS + put(0) + b"K\x01" + get(0) + b"s"), ("state", EMPTY_HOOKS + put(0) + b"}K\x01" + get(0) + b"sb"),
                         ("weights", b"}" + put(0) + text(b"model") + get(0) + b"s")):
        bodies[f"holds itself: {kind}"] = holder
    for kind in ("list", "tuple", "dict"):
        for levels, wide in ((30, 2), (60, 2), (12, 9), (40, 3), (100, 2), (9, 99)):
            bodies[f"laughs: {kind} {levels} {wide}"] = laughs(levels, wide, kind)
            if (levels, wide) == (30, 2):
                bodies[f"laughs as a key: {kind}"] = b"}" + laughs(levels, wide, kind) + b"K\x01s"
    for codec in (b"hex", b"hex_codec", b"base64", b"quopri", b"uu", b"utf-32", b"utf-16", b"zip", b"bz2"):
        for times in (20, 40):
            bodies[f"encoded: {codec.decode()} {times}"] = doubled(times, codec)
    for held in (10**9, 10**12, 2**62, 2**63, 2**70, -1, -10**6):
        bodies[f"claims {held}"] = view(held, (4,), (1,))
        bodies[f"claims and shows {held}"] = view(held, (held,), (1,))
        bodies[f"double: {held}"] = view(held, (4,), (1,), kind=b"DoubleStorage")
    for size, stride in (((10**12,), (0,)), ((10**6, 10**6), (0, 0)), ((2**31, 2**31, 4), (0, 0, 0)), ((10**9, 4), (0, 1)), ((4,), (10**9,)),
                         ((4,), (-1,)), ((-4,), (1,)), ((2,) * 40, (0,) * 40), ((2**62, 0), (0, 0)), ((10**5,) * 8, (0,) * 8)):
        bodies[f"shows {size} by {stride}"] = view(4, size, stride)
    for offset in (5, 10**12, -1, 2**64):
        bodies[f"begins at {offset}"] = view(4, (4,), (1,), offset)
    for depth in (100, 1000, 30_000):
        bodies[f"lists {depth} deep"] = b"]" * depth + b"a" * (depth - 1)
        bodies[f"tuples {depth} deep"] = b")" + b"\x85" * depth
        bodies[f"tuples {depth} deep as a key"] = b"})" + b"\x85" * depth + b"K\x01s"
        bodies[f"dicts {depth} deep"] = b"}K\x01" * depth + b"}" + b"s" * depth
    for module, name, arguments in (
            (b"builtins", b"bytearray", [number(4 * 10**9)]), (b"__builtin__", b"bytearray", [number(10**12)]),
            (b"torch", b"FloatTensor", [number(10**12)]), (b"torch", b"DoubleTensor", [number(10**6), number(10**6)]),
            (b"torch", b"FloatStorage", [number(10**12)]), (b"torch", b"Tensor", [number(10**6), number(10**6)]),
            (b"torch.storage", b"UntypedStorage", [number(10**13)]), (b"torch.storage", b"TypedStorage", [number(10**13)]),
            (b"torch._utils", b"_rebuild_meta_tensor_no_storage", [b"ctorch\nfloat32\n", numbers(10**9, 10**9), numbers(1, 1), b"\x89"]),
            (b"torch._utils", b"_rebuild_device_tensor_from_numpy", [b"]", b"ctorch\nfloat32\n", text(b"cpu"), b"\x89"]),
            (b"torch._utils", b"_rebuild_sparse_tensor", [b"]", numbers(1, 2)]),
            (b"torch._utils", b"_rebuild_wrapper_subclass", [b"ctorch\nTensor\n", b"ctorch\nfloat32\n", numbers(10**12), numbers(1), number(0)]),
            (b"collections", b"Counter", [text(b"A" * 1000)]), (b"collections", b"OrderedDict", [b"]"]),
            (b"torch", b"Size", [number(10**12)]), (b"builtins", b"set", [text(b"abc")]), (b"builtins", b"complex", [text(b"1" * 5000)]),
            (b"torch", b"device", [number(10**30)]), (b"torch.nn.parameter", b"Parameter", [number(5)]),
            (b"builtins", b"getattr", [text(b"a"), text(b"__class__")]), (b"os", b"system", [text(b"true")])):
        bodies[f"calls {name.decode()} {len(bodies)}"] = called(module, name, *arguments)
    bodies |= {
        "a text of 2 GB": b"X\xff\xff\xff\x7fabc", "a number of 255 bytes as a key": b"}" + number(2**2030) + b"K\x01s",
        "a number of MBs": b"\x8b" + struct.pack("<i", 3_000_000) + bytes(3_000_000), "digits": b"L" + b"9" * 100_000 + b"L\n",
        "a persistent name": b"P0\n", "an unknown word": b"\xff", "no value": b"", "only marks": b"(" * 5000, "pops": b"0" * 50,
        "duplicates": b"]" + b"2" * 9000, "nothing in the memo": b"j\x09\0\0\0", "an instance": b"(ios\nsystem\n",
        "a class by NEWOBJ": b"ctorch\nFloatTensor\n" + numbers(10**12) + b"\x81", "an object": b"(cos\nsystem\no",
        "an extension": b"\x82\x01", "a frame of an exabyte": b"\x95" + b"\xff" * 8,
        "a text thousands of times": text(b"A" * 9000) + put(0) + b"](" + get(0) * 9000 + b"e",
        "colliding keys": b"}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(9000)) + b"u",
        "200,000 lists": b"](" + b"]" * 200_000 + b"e",
    }
    found = [(f"{name} {way}", make(content)) for name, content in bodies.items() for way, make in (("", packed), ("(old)", old))
             if way == "" or len(content) < 5000]
    return found + outsides()


def outsides():
    """What is wrong with the archive and not with what is in it."""
    small = b"\x80\x02]."

    def zip_within(path):
        """An old file in front of an archive: which of the two is read?"""
        archive(path, ("a/data.pkl", small))
        path.write_bytes(call(b"builtins", b"bytearray", number(4 * 10**9)) + path.read_bytes())

    def two_ends(path):
        archive(path, ("a/data.pkl", small))
        raw = path.read_bytes()
        path.write_bytes(raw[:-2] + struct.pack("<H", 22) + raw[-22:-2] + b"\0\0")

    def swollen(size):
        content = b"\x80\x02" + view(size // 4, (size // 4,), (1,)) + b"."
        return lambda path: archive(path, ("a/data.pkl", content), ("a/data/0", bytes(size)), packed=True)

    def crowded(path):
        archive(path, *((f"a/data/{i}", b"") for i in range(25_000)))

    def again(count):
        content = b"\x80\x02](" + view(10**5, (10**5,), (1,)) * count + b"e."
        return lambda path: archive(path, ("a/data.pkl", content), ("a/data/0", bytes(4 * 10**5)))

    return [("a zip behind an old file", zip_within), ("two ends", two_ends),
            *((f"{count} times the same numbers", again(count)) for count in (100, 3000)),
            *((f"a zip bomb of {size // 2**20} MiB", swollen(size)) for size in (2**26, 2**28)),
            ("25,000 records", crowded), ("no pickle", lambda path: archive(path, ("a/data/0", bytes(4)))),
            ("two pickles", lambda path: archive(path, ("a/data.pkl", small), ("b/data.pkl", call(b"os", b"system", text(b"true"))))),
            ("a compressed pickle", lambda path: archive(path, ("a/data.pkl", b"\x80\x02(" + b"]" * 10**8 + b"t."), packed=True)),
            ("TorchScript", lambda path: archive(path, ("a/data.pkl", call(b"__torch__.net", b"Net")), ("a/constants.pkl", small)))]
