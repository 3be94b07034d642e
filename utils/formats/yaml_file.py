"""A data.yaml of YOLO -> the values of some keys, each with its line.

PyYAML reads it, but only into nodes: text stays text (to YAML a class called `no` is false), nothing is
constructed and no alias unfolded, so that neither `!!python/object` nor a "billion laughs" does anything.
"""
import re

import yaml

from utils.errors import UserError
from utils.settings import shown
from utils.system.files import printable, read_raw_lines

MAX_BYTES = 1_000_000           # 20,000 class names take half of it
MAX_NODES = 60_000              # words, lists and tables: some seconds of reading
MAX_DEPTH = 30                  # lists within lists; PyYAML calls itself for each
TAGS = {yaml.ScalarNode: "tag:yaml.org,2002:str",           # what a plain word, list, table is marked with
        yaml.SequenceNode: "tag:yaml.org,2002:seq",
        yaml.MappingNode: "tag:yaml.org,2002:map"}
# Part of PyYAML's words, ours, whether the line is where the thing began (else: where PyYAML noticed).
FAULTS = (("stream", "a bracket or a quotation mark is not closed", True),
          ("could not find expected ':'", "not a line of a data.yaml, expected  key: value", True),
          ("another document", "a second document begins. Keep one of them, without the line ---", False),
          ("unknown escape", "a backslash before a character that needs none. Delete the backslash", False),
          ("mapping values", "a colon too many, or spaces in front. A word with a colon needs quotes", False),
          (r"character '\t'", "a tab. Replace it with spaces", False),
          ("cannot start any token", "a word that begins with this character needs quotes", False))


class AsText(yaml.BaseLoader):
    """PyYAML's reader within limits. Aliases and anchors become tags, *name and &name, for read_value.

    Not CBaseLoader: it builds the nodes itself, past these limits.
    """
    depth = nodes = 0

    def compose_node(self, parent, index):
        """The next node; PyYAML calls this for every word, list and table."""
        event = self.peek_event()
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            what = "nested too deeply" if self.depth > MAX_DEPTH else f"more than {MAX_NODES} words"
            raise yaml.MarkedYAMLError(None, None, what, event.start_mark)

        # An alias would stand for a whole tree, and many of them for a tree that fills the memory.
        if self.check_event(yaml.AliasEvent):
            self.get_event()
            return yaml.ScalarNode(f"*{event.anchor}", "", event.start_mark)

        # Without aliases nobody needs the anchors; PyYAML would refuse one that comes twice, as YAML allows.
        self.anchors.clear()
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor:
            node.tag = f"&{event.anchor}"
        return node

    def fetch_more_tokens(self):
        """PyYAML's, but a ValueError becomes an error with a line."""
        try:
            super().fetch_more_tokens()
        except (ValueError, OverflowError):                 # PyYAML computes with the digits of "\UFFFFFFFF"
            raise yaml.MarkedYAMLError(None, None, "digits that mean nothing", self.get_mark()) from None


def read_yaml(path, keys):
    """dict key -> (value, line number) for those of the keys that the file has.

    A value is text, None, a list of text, or a dict text -> text. Other keys are skipped, whatever they hold.
    """
    text = "\n".join(read_raw_lines(path, MAX_BYTES))
    try:
        root = yaml.compose(text, Loader=AsText)
    except yaml.YAMLError as error:
        raise UserError(f"{shown(path)}, {explain_yaml(error, text)}.") from None

    # Only the keys that are asked for are read: what else is in the file need not be understood.
    if root is None or not root.value:                      # an empty file, or only ---
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{place_of_node(root, path)}: not a line of a data.yaml, expected  key: value")
    known = [pair for pair in root.value if isinstance(pair[0], yaml.ScalarNode) and pair[0].value in keys]
    return {key: (read_value(node, path), line) for key, (node, line) in read_table(known, path).items()}


def read_value(node, path, nested=False):
    """A node -> text, None, a list of text, or a dict text -> text.

    nested: the node is inside another one, where only a word is understood.
    """
    where = place_of_node(node, path)

    # Another tag: !!python/object, an anchor or an alias, see AsText.
    if node.tag != TAGS[type(node)]:
        raise UserError(f"{where}: {node.tag[:60]!r} is not understood. Write the value itself instead; "
                        "a word that begins like this needs quotes.")

    if isinstance(node, yaml.ScalarNode):
        return read_word(node, where)
    if nested:
        raise UserError(f"{where}: a list or a table within another is not understood, expected a word. "
                        "Put it in quotes if it is one.")
    if isinstance(node, yaml.SequenceNode):
        return [read_value(item, path, nested=True) for item in node.value]
    table = read_table(node.value, path)
    return {key: read_value(item, path, nested=True) for key, (item, _) in table.items()}


def read_word(node, where):
    """A word as it is written; None when there is none."""
    if node.style is not None:                              # in quotes, or a block of lines
        return node.value

    # An item of a list that is indented too far continues the word above: "cat - dog".
    source = node.start_mark.buffer[node.start_mark.pointer:node.end_mark.pointer]
    if re.search(r"[\r\n]\s*-\s", source):
        raise UserError(f"{where}: {source[:60]!r} is not understood. "
                        "Put the same number of spaces before each - of a list.")
    return None if node.value in ("", "~", "null") else node.value


def read_table(pairs, path):
    """Pairs of nodes -> dict key -> (value node, line of the key). Errors: a key is no word, a key twice."""
    table = {}
    for key, value in pairs:
        word = read_value(key, path, nested=True) or ""
        if word in table:
            raise UserError(f'{place_of_node(key, path)}: "{printable(word[:60])}" is already in line '
                            f"{table[word][1]}. Delete one of them.")
        table[word] = value, key.start_mark.line + 1
    return table


def place_of_node(node, path):
    """File and line, for a message."""
    return f"{shown(path)}, line {node.start_mark.line + 1}"


def explain_yaml(error, text):
    """What PyYAML says about a file -> the line, what is wrong there, what to do."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: the character {chr(error.character)!r} is not allowed in YAML. Delete it"

    # PyYAML's words are for programmers; the usual faults have ours.
    for part, words, at_start in FAULTS:
        if part in error.problem:
            mark = error.context_mark if at_start and error.context_mark else error.problem_mark
            return f"line {mark.line + 1}: {words}"

    begun = f" ({error.context}, line {error.context_mark.line + 1})" if error.context_mark else ""
    return f"line {error.problem_mark.line + 1}: this cannot be read: {error.problem}{begun}. Correct it"
