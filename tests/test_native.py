"""The native kernel computes what the plain scan computes, and says where it cannot run."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from unrolls import (
    FEATURES,
    HIDDEN,
    HOLES,
    LENGTHS,
    RESETS,
    TIME,
    alternating,
    arguments,
    assert_close,
    compiled,
    every_gru,
    every_lstm,
    every_simple_rnn,
    results,
)

from rnn_jax import kernels
from rnn_jax.cells import gru, lstm, min_gru, simple_rnn
from rnn_jax.cells.wrappers import zoneout
from rnn_jax.kernels.native import cells as native_cells
from rnn_jax.kernels.native import kernel as native_kernel
from rnn_jax.kernels.native import library as native_library
from rnn_jax.kernels.native import recurrence as native_recurrence
from rnn_jax.system import machine
from rnn_jax.types import Direction
from rnn_jax.unrolling import unroll, unroll_directions

ROOT = pathlib.Path(__file__).resolve().parent.parent


gru_before = functools.partial(gru, reset_after=False)
every = pytest.mark.parametrize("every", [every_lstm, every_gru, every_simple_rnn])
every_cell = pytest.mark.parametrize(
    "make", [lstm, gru, gru_before, simple_rnn], ids=["lstm", "gru", "gru before", "simple_rnn"]
)


def check(cells, given, tolerance=2e-6, **options):
    got = results(cells, given, "native", **options)
    assert_close(got, results(cells, given, "scan", **options), tolerance)


@compiled
@every
@pytest.mark.parametrize("hidden", [1, 8, 15, 17, 21, 40, 65])  # 21: beyond a row's last block
def test_it_is_scan_in_values_and_gradients(every, hidden):
    check(every(hidden), arguments(every(hidden)), tolerance=4e-6, mask=HOLES, resets=RESETS)


@compiled
@every
@pytest.mark.parametrize(
    "options",
    [{}, {"lengths": LENGTHS}, {"mask": HOLES}, {"resets": RESETS}],
    ids=["full rows", "lengths", "holes", "resets"],
)
def test_masks_and_resets_alone(every, options):
    check(every(HIDDEN), arguments(every(HIDDEN)), **options)


@compiled
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 6), (3, 0), (0, 6), (13, 45), (5, 150)])
def test_it_is_scan_at_the_edges_of_rows_and_chunks(shape):
    batch, time = shape
    cells = [lstm(HIDDEN), lstm(HIDDEN + 3), gru(HIDDEN), gru_before(HIDDEN), simple_rnn(HIDDEN)]
    lengths = jnp.arange(batch, dtype=jnp.int32) * 7 % (time + 1)
    check(cells, arguments(cells, batch, time), tolerance=5e-6, lengths=lengths)


@compiled
@pytest.mark.parametrize(
    ("cores", "directions", "parts", "make"),
    [
        (1, 1, 1, lstm), (2, 1, 2, lstm), (2, 2, 1, lstm), (7, 2, 4, lstm), (99, 1, 7, lstm),
        (7, 2, 4, gru), (7, 2, 4, gru_before), (99, 1, 7, simple_rnn),
    ],
)  # fmt: skip
def test_rows_are_divided_among_cores(cores, directions, parts, make, monkeypatch):
    monkeypatch.setattr(machine, "threads", lambda: cores)
    monkeypatch.setattr(native_kernel, "_MULTIPLICATIONS", 0)
    jax.clear_caches()
    cells = [make(HIDDEN)] * directions
    given = arguments(cells, batch=30, time=9)
    layer = native_kernel._layer(
        Direction(cells[0], given[0][0][0], False, given[0][0][1]), given[1], None, None
    )
    assert native_kernel._parts((layer,) * directions) == parts
    check(cells, given, tolerance=5e-6)
    jax.clear_caches()


@compiled
@every_cell
@pytest.mark.parametrize("hidden", [HIDDEN, 40])
def test_it_drops_what_scan_drops(hidden, make):
    cells = [make(hidden, input_dropout=0.3, recurrent_dropout=0.4)] * 2
    check(cells, arguments(cells), key=jax.random.key(5), mask=HOLES, resets=RESETS)


@compiled
def test_directions_of_several_cells_that_walk_the_same_way():
    cells = [lstm(HIDDEN), gru(HIDDEN), lstm(HIDDEN + 3), gru_before(HIDDEN), min_gru(HIDDEN)]
    each, inputs = arguments(cells)

    def slopes(kernel):
        def loss(each):
            directions = [
                Direction(cell, params, True, initial)
                for cell, (params, initial) in zip(cells, each, strict=True)
            ]
            found = unroll_directions(directions, inputs, lengths=LENGTHS, kernel=kernel)
            return sum(jnp.sum(jnp.sin(outputs)) for _, outputs in found)

        return jax.jit(jax.grad(loss))(each)

    assert_close(slopes("native"), slopes("scan"), 2e-6)


@compiled
@every_cell
def test_parameters_of_another_type_are_taken_as_float32(make):
    cell = make(HIDDEN, dtype=jnp.float32, param_dtype=jnp.bfloat16, recurrent_bias=True)
    ((params, initial),), inputs = arguments([cell])
    params |= {"bias": params["bias"] + 1, "recurrent_bias": params["recurrent_bias"] / 100}
    got, expected = (
        unroll(cell, params, inputs, initial=initial, kernel=kernel)
        for kernel in ("native", "scan")
    )
    assert_close(got, expected, 2e-6)


@compiled
def test_large_kernels_take_larger_chunks():
    # Beyond 2**18 entries; two rows of 130 steps are a chunk of 256 and a rest.
    cells = [lstm(300)]
    draw = np.random.default_rng(0)
    inputs = jnp.asarray(draw.normal(size=(2, 130, 250)), jnp.float32)
    params = cells[0].init(jax.random.key(0), 250)
    initial = cells[0].initial_carry(params, 2)
    check(cells, ([(params, initial)], inputs), tolerance=1e-5)


@compiled
@every_cell
def test_what_is_not_finite_stays_visible(make):
    cell = make(HIDDEN)
    ((params, initial),), inputs = arguments([cell])
    wrong = params | {"kernel": params["kernel"].at[0, 0].set(jnp.nan)}
    _, outputs = unroll(cell, wrong, inputs, initial=initial, kernel="native")
    assert np.isnan(outputs).all(axis=(0, 1)).any()
    _, outputs = unroll(cell, params, inputs * 1e30, initial=initial, kernel="native")
    assert np.isfinite(outputs).all()  # saturated gates are no error
    slopes = jax.grad(
        lambda params: jnp.sum(
            unroll(cell, params, inputs * jnp.inf, initial=initial, kernel="native")[1]
        )
    )(params)
    assert not np.isfinite(slopes["kernel"]).all()


@compiled
def test_tanh_and_sigmoid_over_their_whole_range():
    """A cell whose every gate but one is open or shut shows that gate's function."""
    values = np.concatenate([np.linspace(-12, 12, 4001), np.logspace(-30, 30, 121)])
    inputs = jnp.asarray(values, jnp.float32)[:, None, None]
    cell = lstm(1)
    params = cell.init(jax.random.key(0), 1)
    opened = {"recurrent_kernel": jnp.zeros((1, 4)), "bias": jnp.array([50.0, -50.0, 0.0, 50.0])}

    def state(gate, **changes):
        kernel = jnp.zeros((1, 4)).at[0, gate].set(1.0)
        found = params | opened | {"kernel": kernel} | changes
        return np.asarray(unroll(cell, found, inputs, kernel="native")[0].cell[:, 0], np.float64)

    exact = np.asarray(inputs[:, 0, 0], np.float64)
    np.testing.assert_allclose(state(2), np.tanh(exact), rtol=5e-7)
    # The input gate, with 1 to let in.
    sigmoid = state(0, bias=jnp.array([0.0, -50.0, 50.0, 50.0]))
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-exact)), rtol=0, atol=3e-7)


@compiled
def test_the_same_bits_every_time(monkeypatch):
    """However the cores come to share the work, and whatever a thread's memory held before."""
    monkeypatch.setattr(machine, "threads", lambda: 8)
    monkeypatch.setattr(native_kernel, "_MULTIPLICATIONS", 0)
    jax.clear_caches()
    cells = [lstm(20), lstm(20), gru(20), gru_before(20), simple_rnn(20)]
    given = arguments(cells, batch=32, time=40)

    def slopes(cells):
        def loss(each, inputs):
            found = unroll_directions(alternating(cells, each), inputs, kernel="native")
            return sum(jnp.sum(jnp.sin(outputs)) for _, outputs in found)

        return jax.jit(jax.value_and_grad(loss, (0, 1)))

    run = slopes(cells)
    first = run(*given)
    # Of the largest no thread keeps its memory.
    others = {n: (slopes([lstm(n)]), arguments([lstm(n)], batch=2, time=3)) for n in (3, 100, 1500)}
    for n in (100, 1500, 3, 1500, 100):
        other, of_other = others[n]
        other(*of_other)
        jax.tree.map(np.testing.assert_array_equal, first, run(*given))
    jax.clear_caches()


@compiled
@pytest.mark.parametrize("shared", ["inputs", "parameters", "nothing"])
@pytest.mark.parametrize("make", [lstm, gru, simple_rnn, min_gru])
def test_members_of_a_vmapped_call_are_computed_as_if_alone(make, shared):
    """Over two axes, whichever of the arguments all of them share."""
    cells = [make(9)]

    def slopes(each, inputs, lengths):
        def loss(each, inputs):
            ((carry, outputs),) = unroll_directions(
                alternating(cells, each), inputs, lengths=lengths, kernel="native"
            )
            return jnp.sum(jnp.sin(outputs)) + sum(map(jnp.sum, jax.tree.leaves(carry)))

        return jax.value_and_grad(loss, (0, 1))(each, inputs)

    each, inputs = arguments(cells, batch=3, time=7)
    lengths = jnp.array([7, 2, 0])
    outer, inner = 2, 3
    factors = 1 + jnp.arange(outer * inner).reshape(outer, inner) / 8

    def spread(tree, alone):
        """A copy times its factor for each member, and where its axes are; or one for all."""
        if alone:
            return tree, None
        return jax.tree.map(lambda leaf: jnp.multiply.outer(factors, leaf), tree), 0

    many, of_params = spread(each, shared == "parameters")
    given, of_inputs = spread(inputs, shared == "inputs")
    axes = (of_params, of_inputs, None)
    got = jax.jit(jax.vmap(jax.vmap(slopes, in_axes=axes), in_axes=axes))(many, given, lengths)
    alone = jax.jit(slopes)
    for member in np.ndindex(outer, inner):
        of = lambda tree, axis, n=member: (
            tree if axis is None else jax.tree.map(lambda x: x[n], tree)
        )
        expected = alone(of(many, of_params), of(given, of_inputs), lengths)
        jax.tree.map(
            lambda a, b, n=member: np.testing.assert_allclose(a[n], b, rtol=2e-6, atol=1e-6),
            got, expected,
        )  # fmt: skip


@compiled
@pytest.mark.parametrize("make", [lstm, gru, simple_rnn])
def test_the_inputs_gradient_is_left_out_where_nobody_asks_for_it(make):
    cell = make(HIDDEN)
    ((params, _),), inputs = arguments([cell])

    def loss(params, inputs):
        return jnp.sum(unroll(cell, params, inputs, kernel="native")[1])

    def shapes(argnums):
        text = jax.jit(jax.grad(loss, argnums)).lower(params, inputs).as_text()
        (line,) = [
            line for line in text.splitlines() if f"@rnn_jax_{cell.spec.kind}_backward" in line
        ]
        return line[line.index("->") :]

    dims = "x".join(map(str, inputs.shape))
    assert f"tensor<{dims}xf32>" in shapes((0, 1))
    assert f"tensor<{dims}xf32>" not in shapes(0)


@compiled
def test_it_is_differentiated_once_backwards_and_says_so():
    cell = lstm(HIDDEN)
    ((params, _),), inputs = arguments([cell])

    def loss(inputs):
        return jnp.sum(unroll(cell, params, inputs, kernel="native")[1] ** 2)

    with pytest.raises(TypeError, match="kernel 'native' can be differentiated only once: use"):
        jax.grad(lambda inputs: jnp.sum(jax.grad(loss)(inputs)))(inputs)
    with pytest.raises(TypeError, match=r"kernel 'native' has a gradient rule .*use kernel 'scan'"):
        jax.jvp(loss, (inputs,), (inputs,))


@compiled
@pytest.mark.parametrize(
    ("cell", "options", "named"),
    [
        (gru(HIDDEN, recurrent_activation=jax.nn.hard_sigmoid), {}, "gru with recurrent_activ"),
        (simple_rnn(HIDDEN, activation=jnp.sin), {}, "simple_rnn with activation"),
        (simple_rnn(HIDDEN, layer_norm=True), {}, "layer_norm"),
        (gru(HIDDEN, param_dtype=jnp.float16), {}, "dtype=float32, got float16"),
        (zoneout(lstm(HIDDEN), 0.1), {}, "cells"),
        (lstm(HIDDEN, projection=2), {}, "projection"),
        (lstm(HIDDEN, dtype=jnp.bfloat16), {}, "dtype=float32, got bfloat16"),
        (lstm(HIDDEN, param_dtype=jnp.float16), {}, "dtype=float32, got float16"),
        (lstm(HIDDEN), {"remat_chunk": 2}, "remat_chunk"),
    ],
)
def test_it_names_what_it_does_not_support(cell, options, named):
    ((params, _),), inputs = arguments([cell])
    with pytest.raises(ValueError, match=f"^kernel 'native' (does not )?supports? .*{named}"):
        unroll(cell, params, inputs, kernel="native", **options)


@compiled
def test_it_refuses_shapes_that_are_not_known():
    cell = lstm(HIDDEN)
    ((params, _),), _ = arguments([cell])
    (rows,) = jax.export.symbolic_shape("rows")
    inputs = jax.ShapeDtypeStruct((rows, TIME, FEATURES), jnp.float32)
    run = jax.jit(lambda inputs: unroll(cell, params, inputs, kernel="native")[1])
    with pytest.raises(ValueError, match="kernel 'native' does not support symbolic shapes"):
        jax.export.export(run)(inputs)


@compiled
def test_it_refuses_shards_that_jax_checks():
    """JAX would take gradients of one device for those of all."""
    cell = lstm(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))

    def local(params, inputs):
        return jax.grad(
            lambda params: jnp.sum(unroll(cell, params, inputs, kernel="native")[1] ** 2)
        )(params)

    specs = {"in_specs": (PartitionSpec(), PartitionSpec("rows")), "out_specs": PartitionSpec()}
    with pytest.raises(ValueError, match="kernel 'native' does not support shard_map with check"):
        jax.jit(jax.shard_map(local, mesh=mesh, **specs))(params, inputs)


@compiled
def test_auto_takes_the_fastest_kernel_that_can_run():
    resolve = lambda *cells: tuple(kernels.resolve("auto", cells))
    assert resolve(lstm(4)) == (kernels.native(), "")
    assert resolve(gru(4)) == resolve(simple_rnn(4)) == resolve(lstm(4))
    assert resolve(lstm(4), gru(4)) == resolve(gru(4))
    found = resolve(lstm(4, dtype=jnp.bfloat16))
    assert found == (kernels.fused(), "native supports dtype=float32, got bfloat16")
    kernel, reason = resolve(lstm(4, layer_norm=True))
    assert kernel == kernels.scan()
    assert reason.count("layer_norm") == 2


@compiled
def test_auto_passes_over_what_was_measured_to_be_slower():
    kernel, reason = kernels.resolve("auto", [lstm(8), lstm(512)])
    assert kernel == kernels.fused()
    assert reason == "native is slower than fused from 512 units on"
    assert kernels.resolve("native", [lstm(512)]).kernel == kernels.native()  # if it is asked for
    assert kernels.resolve("auto", [min_gru(512)]).kernel == kernels.native()


def test_linear_cells_take_the_tree_where_there_are_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert kernels.resolve("auto", [min_gru(4)]).kernel == kernels.associative()
    assert kernels.resolve("auto", [gru(4)]).kernel == kernels.fused()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(native_library, "missing", lambda kind: "needs a C++ compiler")
    kernel, reason = kernels.resolve("auto", [min_gru(4)])
    assert kernel == kernels.scan()
    assert reason.endswith("associative is slower than scan on CPUs")


@compiled
def test_auto_is_bit_for_bit_the_kernel_that_it_takes():
    cells = [lstm(HIDDEN), lstm(HIDDEN)]
    given = arguments(cells)
    auto, native = (results(cells, given, kernel) for kernel in ("auto", "native"))
    jax.tree.map(np.testing.assert_array_equal, auto, native)
    # Parameters of another type than the cell would make decide, too.
    (params, _), inputs = given[0][0], given[1]
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    _, outputs = unroll(cells[0], half, inputs, kernel="auto")
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_array_equal(outputs, unroll(cells[0], half, inputs, kernel="fused")[1])


PROGRAM = """
import sys
import tempfile
sys.path.insert(0, {root!r})
from rnn_jax import kernels
from rnn_jax.cells import lstm
found = kernels.resolve("auto", [lstm(4)])
print((found.kernel.name, found.reason))
"""


QUICK_COMPILER = """#!/bin/sh
for output; do :; done
known="$(dirname "$0")/$(basename "$output")"
case "$output" in *.o) test -f "$known" && exec cp "$known" "$output" ;; esac
{} "$@" -O0 || exit
case "$output" in *.o) cp "$output" "$known.$$" && mv "$known.$$" "$known" ;; esac
"""


@functools.cache
def quick_compiler() -> str:
    """A command that compiles without optimisation, as nothing is computed with the library here,
    and each file once."""
    script = pathlib.Path(tempfile.mkdtemp(prefix="rnn_jax_tests_")) / "compiler"
    script.write_text(QUICK_COMPILER.format(shlex.join(native_library._compiler())))
    script.chmod(0o700)
    return str(script)


def in_a_process(tmp_path, **environment):
    """What a process with these environment variables takes for an LSTM, and its cache's
    libraries."""
    if "CXX" not in environment:
        environment["CXX"] = quick_compiler()
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(root=str(ROOT))],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return answer.stdout.strip(), list((tmp_path / "rnn_jax").glob("*.so"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("g++ '-O1", "cannot read $CXX (No closing quotation)"),
        ("no-such-compiler -O1", "finds no compiler no-such-compiler, which $CXX names"),
        ("true", "could not be compiled by true (it wrote nothing)"),
    ],
)
def test_a_compiler_that_is_none_is_named(command, reason, tmp_path):
    found, files = in_a_process(tmp_path, CXX=command)
    assert found == str(("fused", f"native {reason}"))
    assert files == []


def test_without_a_compiler_auto_says_why_it_takes_fused(tmp_path):
    found, files = in_a_process(tmp_path, PATH=str(tmp_path), CXX="")
    assert found == str(("fused", "native needs a C++ compiler (c++, g++ or clang++)"))
    assert files == []


def test_a_compiler_that_fails_is_quoted_in_a_line_and_leaves_nothing(tmp_path):
    compiler = tmp_path / "with space" / "broken"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'lstm.cc: error: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    found, files = in_a_process(tmp_path, CXX=f"'{compiler}' -O1")
    assert "fused" in found
    assert "lstm.cc: error: no such thing" in found
    assert files == []


@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="Linux' processes")
def test_a_kill_during_the_compilation_ends_the_compiler_and_removes_its_folder(tmp_path):
    compiler = tmp_path / "slow"
    compiler.write_text(f"#!/bin/sh\nsleep 100 &\ntouch '{tmp_path}/started'\nwait\n")
    compiler.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(root=str(ROOT))],
        env=os.environ
        | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", "CXX": str(compiler)},
    )

    def left():
        """Processes of the compiler's, and folders."""
        commands = []
        for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                commands.append(each.read_bytes())
        running = [one for one in commands if str(tmp_path).encode() in one]
        return running, [path.name for path in (tmp_path / "rnn_jax").iterdir() if path.is_dir()]

    wait_for(lambda: (tmp_path / "started").exists())
    assert all(left())
    process.kill()
    process.wait()
    wait_for(lambda: left() == ([], []))


def wait_for(found, seconds=60):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


@compiled
def test_the_library_is_compiled_once_and_again_if_it_is_damaged(tmp_path):
    found, files = in_a_process(tmp_path)
    assert found == str(("native", ""))
    (library,) = files
    before = library.stat().st_mtime_ns
    in_a_process(tmp_path)
    assert library.stat().st_mtime_ns == before
    whole = library.read_bytes()
    library.write_bytes(whole[:1000])
    assert in_a_process(tmp_path)[0] == str(("native", ""))
    assert library.read_bytes() == whole


@compiled
def test_a_library_that_cannot_be_loaded_is_compiled_anew(tmp_path):
    """As one that another system with the same home folder compiled."""
    _, (library,) = in_a_process(tmp_path)
    foreign = b"of another system"
    name = library.stem.rpartition("-")[0]
    library.unlink()
    other = library.with_name(f"{name}-{native_library._digest(foreign)}.so")
    other.write_bytes(foreign)
    found, libraries = in_a_process(tmp_path)
    assert found == str(("native", ""))
    assert set(libraries) == {library, other}


@compiled
def test_a_cache_that_cannot_be_written_is_a_reason(tmp_path):
    (tmp_path / "rnn_jax").write_text("a file where the folder should be")
    found = in_a_process(tmp_path)[0]
    assert "fused" in found
    assert "File exists" in found


@compiled
@pytest.mark.parametrize("whose", ["open to all", "another's", "another's folder"])
def test_what_others_may_have_written_is_never_loaded(tmp_path, whose):
    if whose != "open to all" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    _, (library,) = in_a_process(tmp_path)
    # It would end the process with this code if it were loaded.
    source = tmp_path / "planted.cc"
    source.write_text("#include <cstdlib>\nstruct P { P() { std::_Exit(77); } } p;\n")
    planted = tmp_path / "planted.so"
    command = [*native_library._compiler(), "-shared", "-fPIC", "-o", str(planted), str(source)]
    subprocess.run(command, check=True)
    name = library.stem.rpartition("-")[0]
    library.unlink()
    place = library.with_name(f"{name}-{native_library._digest(planted.read_bytes())}.so")
    planted.rename(place)
    place.chmod(0o777 if whose == "open to all" else 0o700)
    place.parent.chmod(0o777)
    if whose == "another's":
        os.chown(place, 12345, 12345)
    elif whose == "another's folder":
        os.chown(place.parent, 12345, 12345)
    found, libraries = in_a_process(tmp_path)  # its exit code is 0
    assert found == str(("native", ""))
    assert (library in libraries) == (whose != "another's folder")
    assert place.parent.stat().st_mode & 0o022 == (0o022 if whose == "another's folder" else 0)


@compiled
def test_a_pipe_in_the_library_s_place_does_not_hang(tmp_path):
    _, (library,) = in_a_process(tmp_path)
    library.unlink()
    os.mkfifo(library)
    assert in_a_process(tmp_path)[0] == str(("native", ""))
    assert library.is_file()


@compiled
def test_what_a_killed_compilation_left_is_cleared_away(tmp_path):
    left, young = (tmp_path / "rnn_jax" / f"building-native-{n}" for n in ("old", "young"))
    for folder in (left, young):
        folder.mkdir(parents=True)
    os.utime(left, (0, 0))
    (tmp_path / "rnn_jax").chmod(0o700)
    in_a_process(tmp_path)
    assert not left.exists()
    assert young.exists()


@compiled
def test_several_processes_compile_at_once(tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: in_a_process(tmp_path)[0], range(3)))
    assert found == [str(("native", ""))] * 3


@compiled
@pytest.mark.parametrize(
    "makes",
    [
        (lstm, lstm),
        (gru, gru_before),
        (simple_rnn, functools.partial(simple_rnn, activation="relu")),
    ],
    ids=["lstm", "gru", "simple_rnn"],
)
def test_both_directions_are_one_call_each_way(makes):
    """Variants of a cell, too."""
    cells = [make(HIDDEN) for make in makes]
    each, inputs = arguments(cells)

    def loss(each):
        found = unroll_directions(alternating(cells, each), inputs, kernel="native")
        return sum(jnp.sum(outputs) for _, outputs in found)

    text = jax.jit(jax.grad(loss)).lower(each).as_text()
    for way in ("forward", "backward"):
        assert text.count(f"@rnn_jax_{cells[0].spec.kind}_{way}") == 1


def test_the_numbers_are_those_of_the_source():
    source = "".join(path.read_text() for path in native_library.FOLDER.iterdir())
    flags = f"kValid = {native_recurrence.VALID}, kRestart = {native_recurrence.RESTART}"
    names = ", ".join(f"k{name.title()}" for name in native_cells.ACTIVATIONS)
    for each in (flags, f"Variant : int64_t {{ {names} }}", "{ kResetBefore, kResetAfter }"):
        assert each in source
    assert [native_cells.CELLS["gru"].variant(make(4).spec) for make in (gru_before, gru)] == [0, 1]


def test_every_cell_has_a_file_and_two_calls():
    used = set()
    for kind in (*native_cells.CELLS, native_library.LINEAR):
        used |= set(native_library.sources(kind))
        calls = native_library.calls(kind)
        assert list(calls) == [f"rnn_jax_{kind}_forward", f"rnn_jax_{kind}_backward"]
        text = (native_library.FOLDER / f"{kind}.cc").read_text()
        assert all(f"void {name}(Call& call)" in text for name in calls.values())
        assert native_library.missing(kind) is None
    assert used == set(native_library.FOLDER.glob("*.cc"))
