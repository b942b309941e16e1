"""Mutants of a Python module, made from its syntax tree.

Each changes one thing: a comparison, a boundary, a boolean, a number, an arithmetic operator, a returned value, or it
leaves a statement out. Left alone is what no test should pin: annotations, decorators, docstrings, texts, log lines.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from tests.mutation.faults.mutant import Change, Mutant, mutants_of

COMPARISONS: dict[type[ast.cmpop], list[str]] = {
    ast.Lt: ["<=", ">="], ast.LtE: ["<", ">"], ast.Gt: [">=", "<="], ast.GtE: [">", "<"],
    ast.Eq: ["!="], ast.NotEq: ["=="], ast.Is: ["is not"], ast.IsNot: ["is"], ast.In: ["not in"], ast.NotIn: ["in"],
}  # fmt: skip
OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"), ast.BitOr: ("|", "&"), ast.BitAnd: ("&", "|"), ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
LOGGERS = {"log", "_log", "logger", "_logger"}
"""A missing log line costs no money and admits no attacker."""


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a module's source."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return mutants_of(path, source, finder.changes)


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self.changes: list[Change] = []
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._texts = source.splitlines(keepends=True)
        self._places: list[str] = []
        self._functions = 0
        """How many functions the current node is inside of."""

    # Places: the function or class that a change is in.

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._inside(node.name, [*node.args.defaults, *filter(None, node.args.kw_defaults)])
        self._functions += 1
        self._inside(node.name, node.body)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's names

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            self._inside(node.name, node.body)

    def _inside(self, name: str, nodes: Sequence[ast.AST]) -> None:
        self._places.append(name)
        for node in nodes:
            self.visit(node)
        self._places.pop()

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call) and not _logs(call):
            self._leave_out(node)
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Name) and target.id in ("__slots__", "__all__") for target in node.targets):
            return
        if self._places and all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._leave_out(node)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in OPERATORS:
            before, after = OPERATORS[type(node.op)]
            self._between(node, node.target, node.value, before + "=", after + "=")
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            if not (isinstance(node.value, ast.Constant) and node.value.value in (None, True, False)):
                self._replace(node.value, "None", f"return {self._text(node.value)} → return None")
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._leave_out(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._leave_out(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break", "continue → break")

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue", "break → continue")

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave assertions alone: they state what the types cannot."""

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if not isinstance(node.test, ast.Compare | ast.UnaryOp | ast.Constant):
            test = self._text(node.test)
            self._replace(node.test, f"(not ({test}))", f"if {test} → if not")
        self.generic_visit(node)

    visit_While = visit_If  # noqa: N815 - ast's names
    visit_IfExp = visit_If  # noqa: N815 - ast's names

    # Expressions.

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, node.comparators, strict=False):
            for after in COMPARISONS[type(operator)]:
                self._between(node, left, right, _SIGNS[type(operator)], after)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        before, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(node, left, right, before, after)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS and not _is_text(node.left) and not _is_text(node.right):
            self._between(node, node.left, node.right, *OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        operand = self._text(node.operand)
        if isinstance(node.op, ast.Not):
            self._replace(node, f"bool({operand})", f"not {operand} → {operand}")
        elif isinstance(node.op, ast.USub):
            self._replace(node, operand, f"-{operand} → {operand}")
        self.visit(node.operand)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value), f"{node.value} → {not node.value}")
        elif isinstance(node.value, int | float):
            text = self._text(node)
            for sign in "+-":
                self._replace(node, f"({text} {sign} 1)", f"{text} → {text} {sign} 1")

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in NAMES:
            self._replace(node.func, NAMES[node.func.id], f"{node.func.id} → {NAMES[node.func.id]}")
        if not (isinstance(node.func, ast.Name) and node.func.id == "field"):  # of a dataclass: mostly how it is shown
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts alone, with the numbers in their formats."""

    # Changes of the text.

    def _leave_out(self, node: ast.stmt) -> None:
        self._replace(node, "pass", f"{self._text(node)} → pass")

    def _replace(self, node: ast.expr | ast.stmt, replacement: str, shown: str) -> None:
        start, end = self._span(node)
        self._add(start, end, replacement, shown)

    def _between(self, node: ast.AST, left: ast.expr, right: ast.expr, before: str, after: str) -> None:
        """Replace the operator that stands between two operands."""
        start, end = self._span(left)[1], self._span(right)[0]
        sign = r"\s+".join(map(re.escape, before.split()))
        if before[0].isalpha():
            sign = rf"\b{sign}\b"
        gap = re.sub(r"#[^\n]*", lambda comment: " " * len(comment[0]), self._source[start:end])
        found = re.search(sign, gap)
        if found is None:
            raise AssertionError(f"no {before} between {self._text(left)} and {self._text(right)}")
        shown = f"{self._text(node)} ({before} → {after})"
        self._add(start + found.start(), start + found.end(), after, shown)

    def _add(self, start: int, end: int, replacement: str, shown: str) -> None:
        place = ".".join(self._places) or "module"
        self.changes.append(Change(start, end, replacement, place, " ".join(shown.split()), self._functions > 0))

    def _text(self, node: ast.AST) -> str:
        return ast.get_source_segment(self._source, node) or ""

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        if node.end_lineno is None or node.end_col_offset is None:
            raise AssertionError(f"no position: {ast.dump(node)}")
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        """The offset in characters; ast counts columns in bytes of UTF-8."""
        return self._lines[line - 1] + len(self._texts[line - 1].encode()[:column].decode())


_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


def _logs(call: ast.Call) -> bool:
    return any(isinstance(node, ast.Name) and node.id in LOGGERS for node in ast.walk(call.func))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def changed_lines(before: str, after: str) -> Iterator[int]:
    """Yield the numbers of the lines of `before` that differ from `after`: the tests that execute them are run."""
    old, new = before.splitlines(), after.splitlines()
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    yield from range(head + 1, max(len(old) - tail, head + 1) + 1)
