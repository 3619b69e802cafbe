"""The built-in data: signatures of the standard library's functions, and their docstrings' first sentences."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_SKIPPED = {"test", "tests", "site-packages", "idlelib", "turtledemo", "lib2to3", "__pycache__"}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_SHORTEST = 12


def docstring_pairs() -> Iterator[dict[str, str]]:
    """`{"prompt": "module.function(signature)", "response": first sentence}` for every documented public function.

    Read from the source files of the running Python, in a fixed order, each prompt once.
    """
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _SKIPPED.isdisjoint(relative.parts):
            for prompt, response in _pairs_of(path, _module_name(relative)):
                if prompt not in seen:
                    seen.add(prompt)
                    yield {"prompt": prompt, "response": response}


def _module_name(relative: Path) -> str:
    return ".".join(relative.with_suffix("").parts).removesuffix(".__init__")


def _pairs_of(path: Path, module: str) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    yield from _walk(tree, module)


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _walk(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            sentence = _first_sentence(ast.get_docstring(child))
            if len(sentence) >= _SHORTEST:
                yield f"{prefix}.{child.name}({ast.unparse(child.args)})", sentence


def _first_sentence(docstring: str | None) -> str:
    paragraph = " ".join((docstring or "").split("\n\n")[0].split())
    return _SENTENCE_END.split(paragraph)[0]
