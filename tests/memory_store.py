"""An object store in memory, in the shape of fsspec's file systems, whose every change of one
object is a moment at which something can happen."""

import pathlib

from rnn_jax.system.store import Store


class Killed(BaseException):
    """What SIGKILL is to a test: nothing catches it."""


class Memory:
    """Objects by path. `before(what, path)` is called before each change of one."""

    def __init__(self, before=lambda what, path: None):
        self.objects, self.before = {}, before

    def invalidate_cache(self):
        pass

    def find(self, root, detail):
        assert detail
        found = {path for path in self.objects if path.startswith(root + "/")}
        return {path: self.info(path) for path in found}

    def info(self, path):
        return {"size": len(self.cat_file(path))}

    def cat_file(self, path):
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def pipe_file(self, path, content):
        self.before("put", path)
        self.objects[path] = content

    def put(self, paths, names):
        for path, name in zip(paths, names, strict=True):
            self.pipe_file(name, pathlib.Path(path).read_bytes())

    def get(self, names, paths):
        for name, path in zip(names, paths, strict=True):
            pathlib.Path(path).write_bytes(self.cat_file(name))

    def rm(self, paths):
        for path in paths:
            self.before("remove", path)
            self.objects.pop(path, None)


def store(memory, url="s3://bucket/run"):
    return Store(memory, url.partition("://")[2], url)


def kill_at(moment):
    """A `before` that raises `Killed` at the moment of that number."""
    seen = 0

    def before(what, path):
        nonlocal seen
        seen += 1
        if seen >= moment:
            raise Killed(what, path)

    return before
