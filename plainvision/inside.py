"""The folders nets/ and utils/ as plainvision.nets and plainvision.utils.

Their files say `from utils.errors import UserError`, for a script beside them. In somebody else's program
"utils" may be a file of theirs. So here the same files get another name, and what they import from each
other gets it too, when they are read; nothing is copied, and no name but "plainvision" is taken.
"""
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

ROOMS = ("nets", "utils")
PACKAGE = Path(__file__).resolve().parent
# Installed they are inside this folder, in the repository beside it.
HOME = PACKAGE if (PACKAGE / "utils").is_dir() else PACKAGE.parent


class Rename(ast.NodeTransformer):
    """from utils.errors import X -> from plainvision.utils.errors import X; the lines stay where they are."""

    def visit_ImportFrom(self, node):  # noqa: N802  ast chooses the names
        if not node.level and node.module.split(".")[0] in ROOMS:
            node.module = f"{__package__}.{node.module}"
        return node

    def visit_Import(self, node):  # noqa: N802
        for alias in node.names:
            if alias.name in ROOMS:                         # import nets
                alias.asname = alias.asname or alias.name
                alias.name = f"{__package__}.{alias.name}"
        return node


class Reader(importlib.machinery.SourceFileLoader):
    """Reads a file of nets/ or utils/ under its other name."""

    def source_to_code(self, data, path, *, _optimize=-1):
        tree = Rename().visit(ast.parse(data, path))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def path_stats(self, path):
        # What Python keeps in __pycache__ belongs to the file under its own name.
        raise OSError


class Finder(importlib.abc.MetaPathFinder):
    """Finds plainvision.utils.errors and the like."""

    def find_spec(self, name, path=None, target=None):
        package, _, rest = name.partition(".")
        if package != __package__ or rest.split(".")[0] not in ROOMS:
            return None

        # A folder with or without __init__.py, or a file.
        place = HOME.joinpath(*rest.split("."))
        first, file = place / "__init__.py", place.with_suffix(".py")
        if first.is_file():
            return self.spec(name, first, [str(place)])
        if place.is_dir():
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        return self.spec(name, file, None) if file.is_file() else None

    @staticmethod
    def spec(name, file, places):
        loader = Reader(name, str(file))
        return importlib.util.spec_from_file_location(name, file, loader=loader,
                                                      submodule_search_locations=places)


def install():
    """Once: from now on these names are found."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
