"""Sessions whose server is known: tells `<kind> <port of the opener> <port of the server> <process id of the server>`
for each. tcp_owners.rs calls what it wants of it."""

import array, ctypes, fcntl, itertools, os, shutil, signal, socket, struct, subprocess, sys, termios, time

MPTCP = 262
REQUEST = b"q" * 100


def tell(kind, opener, server, pid):
    print(kind, opener, server, pid, flush=True)


def port(s):
    return s.getsockname()[1]


def be_named(name):
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)


class Kind:
    """How a server listens and how one connects to it."""

    def __init__(self, listen, connect=None, protocol=0, of_client=None, device=None):
        self.address, self.target, self.protocol = listen, connect or listen, protocol
        self.of_client = protocol if of_client is None else of_client
        self.device = device

    def listen(self, at=0, reuse=False):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM, self.protocol)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if self.device:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.device)
        if reuse:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((self.address, at))
        s.listen(64)
        return s

    def connect(self, at, request=REQUEST):
        """Returns once the other side has the request: the session is among those to accept, then."""
        family = socket.AF_INET6 if ":" in self.target else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM, self.of_client)
        s.connect((self.target, at))
        s.sendall(request)
        left = array.array("i", [1])
        while left[0]:
            fcntl.ioctl(s, termios.TIOCOUTQ, left)
        return s


KINDS = {
    "ipv4": Kind("127.0.0.1"),
    "any_address": Kind("0.0.0.0", "127.0.0.3"),
    "ipv6": Kind("::1"),
    "dual_stack": Kind("::", "::ffff:127.0.0.1"),
    "device": Kind("127.0.0.1", device=b"lo"),
    "mptcp": Kind("127.0.0.1", protocol=MPTCP),
    "mptcp_ipv6": Kind("::1", protocol=MPTCP),
    "mptcp_server_only": Kind("127.0.0.1", protocol=MPTCP, of_client=0),
}


def can_be_had(kind):
    try:
        kind.listen().close()
        return True
    except OSError:
        return False


def abort(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Process:
    """A child that does `work(process)` and is in step with its parent by lines."""

    def __init__(self, work):
        self.to_child, self.to_parent = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                be_named("owner-server")
                work(self)
            finally:
                os._exit(0)
        os.close(self.to_child[0])
        os.close(self.to_parent[1])

    def say(self, number=0):
        os.write(self.to_parent[1], struct.pack("q", number))

    def hear(self):
        return struct.unpack("q", os.read(self.to_parent[0], 8))[0]

    def go_on(self):
        os.write(self.to_child[1], b"x")

    def wait(self):
        os.read(self.to_child[0], 1)

    def end(self):
        os.close(self.to_child[1])
        os.close(self.to_parent[0])
        os.waitpid(self.pid, 0)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.end()


def read(s):
    left = len(REQUEST)
    while left:
        left -= len(s.recv(left))
    s.close()


def written(s):
    s.sendall(b"a" * 10)
    s.shutdown(socket.SHUT_WR)
    s.close()


def closed(s):
    s.close()


# The peer has reset it before.
reset = closed

# Another process has ended the session before, see `use`.
aborted = closed

# What becomes of a session: what its server does, or that it is killed, with the session accepted or not.
FATES = ["read", "written", "closed", "reset", "killed", "queued", "queued_and_reset"]
if shutil.which("ss"):
    FATES.append("aborted")


def serve(process, listener, fate):
    if fate.startswith("queued"):
        process.say(port(listener))
        time.sleep(60)
    process.say(port(listener))
    s, _ = listener.accept()
    process.say()
    process.wait()
    if fate == "killed":
        process.say()
        time.sleep(60)
    globals()[fate](s)


def use(kind, at, process, fate):
    """One session with a server; returns the port of its opener."""
    client = kind.connect(at)
    opener = port(client)
    if not fate.startswith("queued"):
        process.hear()
    if fate.endswith("reset"):
        abort(client)
    if fate == "aborted":
        accepted = f"sport = :{at} and dport = :{opener}"
        subprocess.run(["ss", "--kill", "--tcp", accepted], stdout=subprocess.DEVNULL, check=True)
    if fate.startswith("queued"):
        process.kill()
    else:
        process.go_on()
        if fate == "killed":
            process.hear()
            process.kill()
        else:
            process.end()
    client.close()
    return opener


def of_own(name, kind, fate):
    """Whoever serves has begun to listen."""
    process = Process(lambda process: serve(process, kind.listen(), fate))
    at = process.hear()
    tell(name, use(kind, at, process, fate), at, process.pid)


def of_parent(name, kind, fate):
    """Another process listens as well and has begun to, as systemd and the masters of workers."""
    listener = kind.listen()
    process = Process(lambda process: serve(process, listener, fate))
    at = process.hear()
    opener = use(kind, at, process, fate)
    # What the killed one had not accepted is this one's.
    listener.close()
    tell(name, opener, at, os.getpid() if fate.startswith("queued") else process.pid)


def of_ended_parent(name, kind, fate):
    """Who began to listen has ended, as when a server becomes a daemon."""
    pid = os.pipe()

    def work(process):
        listener = kind.listen()
        server = os.fork()
        if server:
            os.write(pid[1], struct.pack("q", server))
            os._exit(0)
        serve(process, listener, fate)

    process = Process(work)
    os.waitpid(process.pid, 0)
    server = struct.unpack("q", os.read(pid[0], 8))[0]
    at = process.hear()
    process.pid = server
    tell(name, use(kind, at, process, fate), at, server)


def every_server():
    adopt_orphans()
    for (name, kind), fate, way in itertools.product(KINDS.items(), FATES, [of_own, of_parent, of_ended_parent]):
        if can_be_had(kind):
            way(f"{name}.{fate}.{way.__name__}", kind, fate)


def adopt_orphans():
    """Children of children that have ended become this process's."""
    ctypes.CDLL(None).prctl(36, 1)


def handed_on():
    """Who accepts hands the session on: to a process of its own, to another program, or through a socket."""
    kind = KINDS["ipv4"]
    for how, fate in itertools.product(["forked", "executed", "sent"], ["read", "written", "closed", "reset"]):
        listener = kind.listen()
        client = kind.connect(port(listener))
        opener, at = port(client), port(listener)
        s, _ = listener.accept()
        if how == "executed":
            fd = s.fileno()
            script = (
                f"import sys; sys.path[:0] = [{sys.path[0]!r}]; import socket, tcp_owners; sys.stdin.readline(); "
                f"tcp_owners.{fate}(socket.socket(fileno={fd}))"
            )
            program = subprocess.Popen([sys.executable, "-c", script], pass_fds=[fd], stdin=subprocess.PIPE)
            s.close()
            if fate == "reset":
                abort(client)
            program.communicate(b"\n")
            tell(f"{how}.{fate}", opener, at, program.pid)
        else:
            ours, theirs = socket.socketpair(socket.AF_UNIX)

            def work(process):
                client.close()
                if how == "sent":
                    s.close()
                process.say()
                process.wait()
                got = socket.recv_fds(theirs, 1, 1)[1][0] if how == "sent" else None
                globals()[fate](socket.socket(fileno=got) if got else s)

            process = Process(work)
            process.hear()
            if how == "sent":
                socket.send_fds(ours, [b"x"], [s.fileno()])
            s.close()
            if fate == "reset":
                abort(client)
            process.go_on()
            process.end()
            tell(f"{how}.{fate}", opener, at, process.pid)
        client.close()
        listener.close()


# Servers of one port, two at a time: how each listens, and how one connects to it.
SAME_PORT = {
    "two_addresses": [Kind("127.0.0.1"), Kind("127.0.0.2")],
    "any_and_one": [Kind("0.0.0.0", "127.0.0.9"), Kind("127.0.0.1")],
    "two_families": [Kind("127.0.0.1"), Kind("::1")],
    "both_families_and_one": [Kind("::", "::ffff:127.0.0.9"), Kind("127.0.0.1")],
    "daemons": [Kind("127.0.0.1"), Kind("127.0.0.2")],
    "device_and_any": [Kind("127.0.0.1", device=b"lo"), Kind("127.0.0.1")],
    "reuseport": [Kind("127.0.0.1"), Kind("127.0.0.1")],
    "reuseport_mptcp": [Kind("127.0.0.1", protocol=MPTCP), Kind("127.0.0.1", protocol=MPTCP)],
}


def be_daemon():
    """Ends whoever began to listen: only a child of it goes on."""
    if os.fork():
        os._exit(0)


def same_port(sessions):
    """Servers of one port that accept nothing, and sessions that their peers reset: says `ready` and the port of each
    server, then waits for a line to begin, says `done` and waits for another one. Then the servers accept, which tells
    whose each session was."""
    adopt_orphans()
    servers = []
    for name, (one, other) in SAME_PORT.items():
        if not (can_be_had(one) and can_be_had(other)):
            continue

        def work(process, kind, at):
            listener = kind.listen(at, reuse=True)
            if name == "daemons":
                be_daemon()
            process.say(os.getpid())
            process.say(port(listener))
            process.wait()
            listener.setblocking(False)
            try:
                while True:
                    process.say(listener.accept()[1][1])
            except BlockingIOError:
                process.say(0)

        at = 0
        for kind in (one, other):
            process = Process(lambda process: work(process, kind, at))
            process.pid = process.hear()
            at = process.hear()
            servers.append((name, kind, at, process))
    print("ready", *(at for _, _, at, _ in servers), flush=True)
    sys.stdin.readline()
    for name, kind, at, process in servers:
        for _ in range(sessions):
            client = kind.connect(at)
            abort(client)
    print("done", flush=True)
    sys.stdin.readline()
    for name, kind, at, process in servers:
        process.go_on()
        while opener := process.hear():
            tell(name, opener, at, process.pid)
        process.end()


def subflows(sessions):
    """Multipath TCP sessions of two subflows each, see `ip mptcp endpoint`. The second word is the client's process."""
    kind = KINDS["mptcp"]
    for _ in range(sessions):
        process = Process(lambda process: serve(process, kind.listen(), "read"))
        at = process.hear()
        client = kind.connect(at)
        process.hear()
        while established(at) < 4:
            time.sleep(0.01)
        process.go_on()
        process.end()
        client.close()
        while established(at):
            time.sleep(0.01)
        tell("subflows", os.getpid(), at, process.pid)


def established(at):
    """How many TCP sockets of sessions with a port there are that are not closed."""
    with open("/proc/net/tcp") as sockets:
        lines = [line.split()[1:4] for line in sockets.readlines()[1:]]
    closed = ("06", "0A")
    return sum(s not in closed and "%04X" % at in (local[-4:], remote[-4:]) for local, remote, s in lines)
