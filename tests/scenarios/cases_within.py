"""What processes share within one execution is its own affair: sockets, shared memory, threads. What it reads of
the machine (locale, terminal descriptions, processors) is an input like any other."""
import os
import socket
import threading
import time

from harness import Skip, case, scenario

CAT = {"setup": "echo one > in", "matter": "echo two > in"}


def _python(text):
    return ["python3", "-c", text]


# --- sockets ---

case("socket_that_is_only_opened",
     _python("import socket\nfor f in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):\n  try: socket.socket(f).close()\n"
             "  except OSError: pass\nprint(open('in').read())"), **CAT)
case("pair_of_sockets_between_processes",
     _python("import os, socket\na, b = socket.socketpair()\nif os.fork() == 0:\n  b.sendall(open('in', 'rb').read())\n"
             "  os._exit(0)\nb.close()\nprint(a.recv(99))\nos.wait()"), **CAT)
TALK = """import os, socket, threading
server = socket.socket(socket.AF_UNIX)
server.bind('s')
server.listen()
def answer():
  with server.accept()[0] as connection:
    connection.sendall(open('in', 'rb').read())
thread = threading.Thread(target=answer)
thread.start()
client = socket.socket(socket.AF_UNIX)
client.connect('s')
print(client.recv(99))
thread.join()
os.unlink('s')
"""
case("socket_with_a_name_within", _python(TALK), **CAT)
SERVER = """import os, socket
server = socket.socket(socket.AF_UNIX)
server.bind('s.new')
server.listen()
os.rename('s.new', 's')
with server.accept()[0] as connection:
  connection.sendall(open('in', 'rb').read())
"""
CLIENT = "import socket\nc = socket.socket(socket.AF_UNIX)\nc.connect('s')\nprint(c.recv(99))\n"


@scenario
def server_and_client_of_one_script(t):
    """The script hits; of the two each hears what the other says, so neither is recorded by itself."""
    t.write_all({"server.py": SERVER + "os.unlink('s')\n", "client.py": CLIENT, "in": "one\n",
                 "run.sh": "python3 server.py &\nuntil [ -S s ]; do :; done\npython3 client.py\nwait\n"})
    report = t.step(["sh", "run.sh"], hit=False)
    for script, code in (("server.py", "socket"), ("client.py", "network")):
        found = next(e for e in report.of("python3") if e["argv"][-1] == script)
        t.check(code in {r["code"] for r in found["reasons"]}, f"{script}: {found['reasons']}")
        t.check(not found.get("recorded"), f"{script} was recorded")
    t.step(["sh", "run.sh"], hit=True)
    t.write("in", "two\n")
    t.step(["sh", "run.sh"], hit=False)
    t.step(["sh", "run.sh"], hit=True)


@scenario
def somebody_outside_connects(t):
    """Who is not seen may say anything: what it was told is no result of the command."""
    t.write_all({"server.py": "import signal\nsignal.alarm(20)\n" + SERVER + "os.unlink('s')\n", "in": "one\n"})

    def call():
        path = os.path.join(t.tree, "s")
        until = time.monotonic() + 10
        while not os.path.exists(path):
            if time.monotonic() > until:
                return
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.recv(99)

    for _ in range(2):
        thread = threading.Thread(target=call)
        thread.start()
        done, report = t.run(["python3", "server.py"], timeout=30)
        thread.join()
        t.equal(done.status, 0, f"status {done.err!r}")
        t.check("socket" in report.codes(), f"no reason socket, but {report.codes()}")


case("socket_that_stays", _python("import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('s')"), clean="rm s",
     hit=False, again=False, code="socket")
case("datagrams_to_a_name", _python(
    "import os, socket\na, b = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in '12')\na.bind('s')\n"
    "b.connect('s')\nb.send(b'x')\nprint(a.recv(9))\nos.unlink('s')"), hit=False, code="socket")
case("name_of_a_socket_that_is_taken", _python(
    "import socket\ns = socket.socket(socket.AF_UNIX)\ntry: s.bind('in')\nexcept OSError as e: print(e.errno)\n"
    "print(open('in').read())"), **CAT)
case("connection_from_the_network", _python(
    "import socket\ns = socket.socket()\ns.listen()\nc = socket.socket()\nc.connect(s.getsockname())\ns.accept()"),
     hit=False, code="network")

# --- shared memory ---

SYSTEM_V = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
  if (argc > 2) {  /* the other program */
    strcat(shmat(atoi(argv[2]), NULL, 0), "other");
    return 0;
  }
  const int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  char *text = shmat(id, NULL, 0);
  if (!strcmp(argv[1], "early")) shmctl(id, IPC_RMID, NULL);
  if (fork() == 0) {
    FILE *in = fopen("in", "r");
    if (!in || !fgets(text, 99, in)) return 1;
    _exit(0);
  }
  wait(NULL);
  if (!strcmp(argv[1], "other")) {
    char number[20];
    snprintf(number, sizeof number, "%d", id);
    if (fork() == 0) execl(argv[0], argv[0], "x", number, (char *)NULL);
    wait(NULL);
  }
  printf("%s\n", text);
  if (strcmp(argv[1], "left") != 0) shmctl(id, IPC_RMID, NULL);
  else printf("%d\n", id);
}
"""


@scenario
def shared_memory_within(t):
    t.write_all({"shm.c": SYSTEM_V, "in": "one\n"})
    t.sh("gcc -o shm shm.c")
    for way in ("early", "late", "other"):
        t.write("in", "one\n")
        report = t.step(["./shm", way], hit=False)
        if way == "other":
            child = next(e for e in report.executions if e["parent"] != 0)
            t.check("shared-memory" in {r["code"] for r in child["reasons"]}, f"who attaches: {child}")
        t.step(["./shm", way], hit=True)
        t.write("in", f"two {way}\n")
        t.step(["./shm", way], hit=False)


@scenario
def shared_memory_that_is_left(t):
    t.write_all({"shm.c": SYSTEM_V, "in": "one\n"})
    t.sh("gcc -o shm shm.c")
    for _ in range(2):
        done, report = t.run(["./shm", "left"])
        t.check("shared-memory" in report.codes(), f"no reason shared-memory, but {report.codes()}")
        t.run_bare(["ipcrm", "-m", done.out.split()[-1].decode()])


POSIX = r"""
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
  const int fd = shm_open("/pcache-scenario", O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0 || ftruncate(fd, 4096) != 0) return 2;
  char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char *anonymous = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_t *ready = sem_open("/pcache-scenario-ready", O_CREAT | O_EXCL, 0600, 0);
  if (ready == SEM_FAILED) return 3;
  if (fork() == 0) {
    FILE *in = fopen("in", "r");
    if (!in || !fgets(text, 99, in)) return 1;
    anonymous[0] = 'A';
    sem_post(ready);
    _exit(0);
  }
  sem_wait(ready);
  wait(NULL);
  printf("%s%s\n", text, anonymous);
  shm_unlink("/pcache-scenario");
  sem_unlink("/pcache-scenario-ready");
}
"""


@scenario
def shared_memory_with_a_name_within(t):
    """In /dev/shm, made and removed again; a semaphore beside it."""
    t.write_all({"shm.c": POSIX, "in": "one\n"})
    t.sh("gcc -o shm shm.c -lpthread -lrt")
    for text in ("one\n", "two\n"):
        t.write("in", text)
        t.step(["./shm"], hit=False)
        t.step(["./shm"], hit=True)


# --- threads and workers ---

case("pool_of_threads", _python(
    "from concurrent.futures import ThreadPoolExecutor as T\nwith T(4) as p:\n"
    "  print(sum(p.map(lambda n: n * len(open('in').read()), range(50))))"), **CAT)
case("pool_of_processes", _python(
    "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p:\n  print(p.map(len, [open('in').read(), 'x']))"),
     **CAT)
case("signal_to_a_child_that_has_ended", _python(
    "import os, signal, time\nchild = os.fork()\nif child == 0: os._exit(0)\ntime.sleep(.1)\n"
    "os.kill(child, signal.SIGTERM)\nos.wait()\nprint(open('in').read())"), **CAT)
case("key_of_multiprocessing_and_another", _python(
    "import multiprocessing, os\nprint(os.urandom(32) != os.urandom(32))"), hit=False, code="random")
case("random_bytes_after_reading_the_module", _python(
    "import os, sys, glob\nfor p in glob.glob(os.path.dirname(os.__file__) + '/multiprocessing/__pycache__/process.*.pyc'):\n"
    "  open(p).close()\nopen('in').close()\nprint(len(os.urandom(32)))"), setup="echo one > in", hit=False, code="random")


@scenario
def threads_of_openmp(t):
    t.write_all({"in": "one\n", "sum.c": "#include <stdio.h>\nint main(void) {\n  long sum = 0;\n"
                 "#pragma omp parallel for reduction(+ : sum) num_threads(3)\n  for (int i = 0; i < 1000; ++i) sum += i;\n"
                 "  char text[9] = \"\";\n  FILE *in = fopen(\"in\", \"r\");\n  if (in) fgets(text, 9, in);\n"
                 "  printf(\"%ld %s\", sum, text);\n}\n"})
    t.write("least.c", "int main(void) { return 0; }\n")
    if t.run_bare(["gcc", "-fopenmp", "-o", "/dev/null", "least.c"]).status:
        raise Skip("gcc -fopenmp links nothing here: no OpenMP")
    t.equal(t.run_bare(["gcc", "-fopenmp", "-o", "sum", "sum.c"]).status, 0, "status of the compiler")
    t.sh("gcc -fopenmp -o sum sum.c")
    t.step(["./sum"], hit=False)
    t.step(["./sum"], hit=True)
    t.write("in", "two\n")
    t.step(["./sum"], hit=False)


# --- the clock, the machine, the locale ---

case("processor_times_are_asked", _python("import os, time\nos.times(); time.process_time()\nprint(open('in').read())"), **CAT)
case("times_of_a_shell", ["bash", "-c", "times > /dev/null; cat in"], **CAT)
case("own_status", "grep -c ^Name /proc/self/status; tr '\\0' ' ' < /proc/self/cmdline | wc -c; cat in", **CAT)
case("processors_by_proc", _python("print(sum(l.startswith('processor') for l in open('/proc/cpuinfo')))\nprint(open('in').read())"),
     **CAT)
case("sorted_by_a_locale", "sort in; locale > /dev/null", env={"LC_ALL": "xx_YY.UTF-8", "LANGUAGE": "xx"},
     setup="printf 'b\\na\\n' > in", matter="echo two > in")


@scenario
def description_of_a_terminal(t):
    """terminfo is an input of who asks for it."""
    entry = "mine,\n\tbold=\\E[{},\n"
    t.write("mine.src", entry.format(1))
    if t.run_bare(["sh", "-c", "command -v tic tput"]).status:
        raise Skip("there is no tic or no tput (Debian's package ncurses-bin)")
    t.equal(t.run_bare(["tic", "-o", "ti", "mine.src"]).status, 0, "status of tic")
    t.sh("tic -o ti mine.src")
    show = dict(env={"TERM": "mine", "TERMINFO": "@/ti"})
    for number in (1, 7):
        t.write("mine.src", entry.format(number))
        t.sh("tic -o ti mine.src")
        t.step("tput bold | od -c", hit=False, what=f"bold={number}", **show)
        t.step("tput bold | od -c", hit=True, what=f"bold={number} again", **show)


@scenario
def environment_by_proc(t):
    """What a key leaves out counts where it is read."""
    cmd = "cat /proc/self/environ | tr '\\0' '\\n' | grep COLUMNS"
    for columns, hit in (("80", False), ("80", True), ("132", False)):
        t.step(cmd, env={"COLUMNS": columns}, hit=hit, what=f"COLUMNS={columns}")
