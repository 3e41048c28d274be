"""Text of a compiled graph in the form of MindSpore 2.10, with the nodes that a test gives."""

HEADER = """# IR entry: @1_main
# Total params: 2
# Params:
%para1_image: <Tensor[UInt8], (2, 8, 8, 3)> : [2, 8, 8, 3]
%para2_conv.weight: <Ref[Tensor[Float32]], (4, 3, 3, 3), ref_key=conv.weight, is_parameter, is_inplace>  :  has_default
"""


def node(number, primitive, inputs=(), output="Tensor[Float32], (2, 4)", line=1):
    """Return the lines of a node.

    inputs: numbers of nodes, and other arguments as text
    output: type that the node returns
    """
    arguments = ", ".join(f"%{other}" if isinstance(other, int) else other for other in inputs)
    return f"""  %{number}(CNode_{number}) = PrimFunc_{primitive}({arguments}) cnode_attrs: {{checkpoint: Bool(1)}}
      : (<Tensor[Float32], (9, 9)>) -> (<{output}>)
      # Fullname with scope: (Default/{primitive}-op0)
      # In file /home/me/repository/examples/det/ssd/ssd/models/net.py:{line}, 4~33/        x = f(x)/
      # In file /usr/lib/python3/site-packages/mindspore/ops/f.py:7~9, 4~9/    return g(x)/
"""


def subgraph(name, *nodes):
    return f"\nsubgraph @{name}() {{\n{''.join(nodes)}}}\n"


def write_graph(path, *subgraphs):
    path.write_text(HEADER + "".join(subgraphs))
    return path
