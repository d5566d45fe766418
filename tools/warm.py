"""A Python that has imported torch and lf2 once and forks for every program it is asked to run: six seconds less for
each.

    with Warm() as warm:
        child = warm.start("-m", "lf2.run", "config.json")     # what `python` would be given
        out, err = child.communicate(timeout=600); child.returncode

Forking is sound while a process has one thread. The server looks before each fork, and starts an ordinary Python
where it finds more.
"""
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from pathlib import Path

MODULES = ("lf2.run", "matplotlib.pyplot")
ONE_THREAD = dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
LENT = "LF2_WARM"  # a folder with the ends of a server that waits for us


class Started:
    """A process of the server, with what tests need of `subprocess.Popen`."""
    def __init__(self, stdout, stderr):
        self.stdout, self.stderr, self.pid, self.returncode = stdout, stderr, None, None
        self.told, self.ended = threading.Event(), threading.Event()
    def poll(self): return self.returncode
    def wait(self, timeout=None):
        if not self.ended.wait(timeout): raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.returncode
    def communicate(self, timeout=None):
        """(stdout, stderr) of a process that has ended."""
        self.wait(timeout)
        if self.pid is None: return "", "the Python that forks (tools/warm.py) has ended: its own message says why"
        return tuple(Path(p).read_text(encoding="utf-8", errors="replace") for p in (self.stdout, self.stderr))
    def send_signal(self, number):
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError): os.kill(self.pid, number)
    def kill(self): self.send_signal(signal.SIGKILL)


class Lent:
    """A server that another one forked for us, with what `Warm` needs of `subprocess.Popen`; it hears and talks through
    named pipes."""
    def __init__(self, folder):
        self.stdin, self.stdout = open(folder/"orders", "w"), open(folder/"told")
        for name in ("orders", "told"): (folder/name).unlink()  # it serves once
    @staticmethod
    def at_hand():
        folder = Path(os.environ.get(LENT, "/nowhere"))
        return Lent(folder) if (folder/"orders").exists() else None
    def wait(self): pass  # what it says has an end


class Warm:
    """The server; `modules` are imported before anything is asked of it. Where one is lent (`lend`) that takes no time,
    unless it is to be one of its `own`: forks of one Python hash strings alike."""
    def __init__(self, modules=MODULES, executable=sys.executable, own=False, **env):
        self.folder = tempfile.TemporaryDirectory(prefix="warm-", ignore_cleanup_errors=True)
        self.lock, self.children, self.gone = threading.Lock(), [], False
        env = dict(os.environ) | ONE_THREAD | {k: str(v) for k, v in env.items()}
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", LENT): env.pop(name, None)
        self.server, self.env = None if own or modules != MODULES else Lent.at_hand(), env
        if not self.server:
            self.env = {}
            self.server = subprocess.Popen([executable, __file__, *modules], env=env, text=True, start_new_session=True,
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
    def listen(self):
        for line in self.server.stdout:
            number, word, value = json.loads(line)
            child = self.children[number]
            if word == "pid": child.pid = value; child.told.set()
            else: child.returncode = value; child.ended.set()
        with self.lock: self.gone = True
        for child in self.children: self.lost(child)
    @staticmethod
    def lost(child):
        """The server is gone, and a child that has not ended with it."""
        if not child.ended.is_set(): child.returncode = -signal.SIGKILL; child.told.set(); child.ended.set()
    def lend(self, folder):
        """The environment variable with which a program's first `Warm` is a fork of this one."""
        for end in ("orders", "told"): os.mkfifo(Path(folder)/end)
        self.start(__file__, "--lent", folder)
        return {LENT: folder}
    def start(self, *argv, cwd=None, **env):
        """Runs `python *argv` with other environment variables (None: without), in a session of its own; what it
        prints goes to files."""
        with self.lock:
            number = len(self.children)
            child = Started(*(f"{self.folder.name}/{number}.{which}" for which in ("out", "err")))
            self.children.append(child)
            env = {k: v if v is None else str(v) for k, v in (self.env | env).items()}
            order = dict(number=number, argv=[str(a) for a in argv], cwd=str(cwd or Path.cwd()), env=env)
            order |= dict(stdout=child.stdout, stderr=child.stderr)
            with contextlib.suppress(BrokenPipeError):
                self.server.stdin.write(json.dumps(order) + "\n")
                self.server.stdin.flush()
            if self.gone: self.lost(child)
        child.told.wait()
        return child
    def together(self, *argv, processes, cwd=None):
        """The same program as every one of `processes` processes, as torchrun would start it."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            place = dict(WORLD_SIZE=processes, LOCAL_WORLD_SIZE=processes, MASTER_ADDR="127.0.0.1",
                         MASTER_PORT=s.getsockname()[1])
        return [self.start(*argv, cwd=cwd, RANK=n, LOCAL_RANK=n, **place) for n in range(processes)]
    def close(self):
        """Ends the server and what it started."""
        with contextlib.suppress(OSError): self.server.stdin.close()
        self.server.wait()
        self.listener.join()
        self.server.stdout.close()
        self.folder.cleanup()
    def __enter__(self): return self
    def __exit__(self, *_): self.close()


def program(argv):
    """What `python *argv` does, in this process."""
    first, *rest = argv
    sys.path[0] = str(Path(first).resolve().parent) if first not in ("-m", "-c") else os.getcwd()
    sys.argv = argv if first not in ("-m", "-c") else [first, *rest[1:]]
    if first == "-m":
        sys.modules.pop(rest[0], None)                       # it runs as __main__, as if it had not been imported
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else: runpy.run_path(first, run_name="__main__")


def places(order):
    """The files that a program reads from and writes to."""
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return [os.open(os.devnull, os.O_RDONLY), *(os.open(order[k], new, 0o600) for k in ("stdout", "stderr"))]


def fork(order, others):
    """The number of the new process; in it, None once it is ready to run its program."""
    sys.stdout.flush()
    if pid := os.fork(): return pid
    os.setsid()
    signal.set_wakeup_fd(-1); signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for to, file in enumerate(places(order)): os.dup2(file, to); os.close(file)
    for fd in others: os.close(fd)
    os.chdir(order["cwd"])
    for k, v in order["env"].items(): os.environ.pop(k, None) if v is None else os.environ.update({k: v})
    tempfile.tempdir = None                                  # TMPDIR may be another
    return None


def spawn(order):
    """As `fork`, by an ordinary Python."""
    files = places(order)
    env = {k: v for k, v in (os.environ | order["env"]).items() if v is not None}
    child = subprocess.Popen([sys.executable, *order["argv"]], cwd=order["cwd"], env=env,
                             start_new_session=True, stdin=files[0], stdout=files[1], stderr=files[2])
    for file in files: os.close(file)
    child.returncode = 0                                     # waited for below, with the others
    return child.pid


def serve(modules):
    """Obeys orders, one a line on stdin, until it is closed; returns the program of a child in the child, None in the
    server."""
    import psutil
    for name in modules: importlib.import_module(name)
    if "lf2.records" in sys.modules:                         # what every run hashes is parsed once for all
        rooms = [name.removeprefix("lf2.") for name in sys.modules if name.startswith("lf2.methods.")]
        sys.modules["lf2.config"].code_hash([*sys.modules["lf2.records"].DECIDING, *rooms])
    gc.freeze()                                              # what is shared stays shared
    me, running, (woken, wake) = psutil.Process(), {}, os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None); signal.set_wakeup_fd(wake)
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    def tell(*what): print(json.dumps(what), flush=True)
    rest = b""
    while True:
        ready, *_ = select.select([orders, woken], [], [])
        if woken in ready: os.read(woken, 4096)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid: break
            tell(running.pop(pid), "status", os.waitstatus_to_exitcode(status))
        if orders not in ready: continue
        if not (block := os.read(orders.fileno(), 1 << 16)): break
        *lines, rest = (rest + block).split(b"\n")
        for order in map(json.loads, lines):
            pid = fork(order, (woken, wake)) if me.num_threads() == 1 else spawn(order)
            if pid is None: orders.close(); return order["argv"]
            running[pid] = order["number"]
            tell(order["number"], "pid", pid)
    for pid in running:
        with contextlib.suppress(ProcessLookupError): os.killpg(pid, signal.SIGKILL)
    return None


def ends(argv):
    """Runs a program and ends this process as Python would, but for taking its modules apart, which costs a second."""
    status = 0
    try: program(argv)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
        if isinstance(e.code, str): print(e.code, file=sys.stderr)
    except BaseException as e:
        traceback.print_exc()
        status = -signal.SIGINT if isinstance(e, KeyboardInterrupt) else 1
    threading._shutdown(); atexit._run_exitfuncs()           # as multiprocessing ends its processes
    for stream in (sys.stdout, sys.stderr): stream.flush()
    if status < 0: signal.signal(-status, signal.SIG_DFL); os.kill(os.getpid(), -status)
    os._exit(status & 255)


def lent(folder):
    """Stdin and stdout become the pipes of a server that is lent; each opens when the other side does."""
    for to, (end, how) in enumerate((("orders", os.O_RDONLY), ("told", os.O_WRONLY))):
        pipe = os.open(f"{folder}/{end}", how)
        os.dup2(pipe, to)
        os.close(pipe)


if __name__ == "__main__":
    modules = sys.argv[1:]
    if modules[:1] == ["--lent"]: lent(modules[1]); modules = []
    argv = serve(modules)
    if argv: ends(argv)
