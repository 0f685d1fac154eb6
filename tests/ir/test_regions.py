"""Sub-graphs apart from the names in them."""

from graphopt.ir.regions import Skeleton, likeness, structure_of, written_out
from graphopt.ir.text import parse_graph, print_graph

REGION = """graph {
  %i: f32[4] = argument 0
  %j: f32[4] = argument 1
  s: (%s0: f32[2], %s1: f32[2]) = aten.chunk.default(%i, 2)
  %a: f32[2] = aten.add.Tensor(%s0, %s1, alpha=2)
  n: () = aten._assert_async.default(%a)
  return %a, %j
}"""


def test_names_and_origins_are_no_part_of_the_structure() -> None:
    first = structure_of(parse_graph(REGION))
    assert first == structure_of(parse_graph(REGION.replace("%s0", "%q").replace("%a", "%b")))
    for was, other in (("alpha=2", "alpha=2.0"), ("(%s0, %s1", "(%s1, %s0"), ("%a, %j", "%j, %a"),
                       ("f32[4]", "f64[4]"), ("chunk", "tensor_split")):  # fmt: skip
        assert first != structure_of(parse_graph(REGION.replace(was, other)))


def test_a_region_is_written_out_under_other_names_on_what_it_is_given() -> None:
    region = parse_graph(REGION)
    outer = parse_graph("graph { %x: f32[4] = argument 0 %y: f32[4] = argument 1 return }")
    made: list[str] = []

    def renamed(name: str) -> str:
        made.append(name)
        return f"{name}_{len(made)}"

    nodes, outputs = written_out(region, tuple(outer.values), renamed)
    assert [node.name for node in nodes] == ["s_3", "a_4", "n_5"]
    text = print_graph(type(outer)(outer.inputs, nodes, outputs))
    assert text.splitlines()[3:] == [
        "  s_3: (%s0_1: f32[2], %s1_2: f32[2]) = aten.chunk.default(%x, 2)",
        "  %a_4: f32[2] = aten.add.Tensor(%s0_1, %s1_2, alpha=2)",
        "  n_5: () = aten._assert_async.default(%a_4)",
        "  return %a_4, %y",
        "}",
    ]


def test_nodes_are_like_that_differ_in_names_alone() -> None:
    lines = (
        "%a: f32[4] = aten.add.Tensor(%x, %x, alpha=2)",
        "%b: f32[4] = aten.add.Tensor(%y, %y, alpha=2)",
        "%c: f32[4] = aten.add.Tensor(%x, %y, alpha=2)",
        "%d: f32[4] = aten.add.Tensor(%x, %x, alpha=3)",
    )
    graph = parse_graph(
        "graph { %x: f32[4] = argument 0 %y: f32[4] = argument 1\n" + "\n".join(lines) + "\nreturn %a }"
    )
    a, b, c, d = graph.nodes
    assert likeness(a) == likeness(b) and hash(likeness(a)) == hash(likeness(b))
    assert likeness(a) != likeness(c) and likeness(a) != likeness(d) and likeness(a) != "a"
    assert a.fact(Skeleton) == b.fact(Skeleton) == c.fact(Skeleton) != d.fact(Skeleton)
