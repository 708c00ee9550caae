"""The life of a container as a Python program lives it, with Debian's python3-docker:
docker_py.py VERSION PREFIX, DOCKER_HOST says where. It ends with "ok" or an exception."""
import io
import sys
import tarfile
import time

import docker

version, prefix = sys.argv[1], sys.argv[2]
client = docker.from_env(version=version, timeout=60)
label = "io.muelle.test=" + prefix
begun = int(time.time())


def check(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def archive(name, data):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return b.getvalue()


check("ping", client.ping(), True)
if version != "auto":
    check("version", client.api.api_version, version)
check("os", client.version()["Os"], "linux")

# A command that ends.
check("run", client.containers.run("busybox", ["echo", "hello"], remove=True), b"hello\n")
try:
    client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    raise AssertionError("exit status 3 was no error")
except docker.errors.ContainerError as e:
    check("exit status", (e.exit_status, e.stderr), (3, b"no\n"))
try:
    client.containers.run("busybox", ["/nonexistent"], remove=True)
    raise AssertionError("a program that is not there was no error")
except docker.errors.APIError as e:
    check("status of a start that fails", e.response.status_code in (400, 404, 500), True)

# Networks and volumes, and a container that stays.
net = client.networks.create(prefix + "-net", driver="bridge", labels={"io.muelle.test": prefix})
check("networks", [n.name for n in client.networks.list(names=[net.name])], [net.name])
vol = client.volumes.create(prefix + "-vol", labels={"io.muelle.test": prefix})
check("volumes", [v.name for v in client.volumes.list(filters={"label": label})], [vol.name])
c = client.containers.run(
    "busybox", ["sh", "-c", "echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done"],
    name=prefix + "-c", detach=True, network=net.name, mem_limit="64m", environment={"A": "b"},
    volumes={vol.name: {"bind": "/v", "mode": "rw"}}, labels={"io.muelle.test": prefix},
    ports={"80/tcp": ("127.0.0.1", None)})
c.reload()
check("status", c.status, "running")
check("memory", c.attrs["HostConfig"]["Memory"], 64 << 20)
check("published", c.attrs["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"], "127.0.0.1")
for chunk in c.logs(stream=True, follow=True, stderr=False):
    check("followed log", chunk, b"out\n")
    break
for chunk in c.logs(stream=True, follow=True, stdout=False):
    check("followed log of errors", chunk, b"err\n")
    break
check("log", c.logs(stdout=False), b"err\n")

# exec
r = c.exec_run(["sh", "-c", "echo $A; echo two >&2; exit 4"], demux=True)
check("exec", (r.exit_code, r.output), (4, (b"b\n", b"two\n")))
sock = c.exec_run(["cat"], stdin=True, socket=True).output
raw = getattr(sock, "_sock", sock)
raw.sendall(b"through\n")
raw.shutdown(1)
header = b""
while len(header) < 8:
    header += raw.recv(8 - len(header))
check("frame of exec", (header, raw.recv(8)), (b"\x01\0\0\0\0\0\0\x08", b"through\n"))
sock.close()

# Files both ways.
check("put_archive", c.put_archive("/v", archive("f.txt", b"content")), True)
bits, stat = c.get_archive("/v/f.txt")
check("stat", (stat["name"], stat["size"]), ("f.txt", 7))
with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as t:
    check("get_archive", t.extractfile("f.txt").read(), b"content")
c.exec_run(["touch", "/new"])
check("diff", {"Path": "/new", "Kind": 1} in c.diff(), True)

# Numbers.
s = c.stats(stream=False)
check("stats", (s["memory_stats"]["limit"], s["pids_stats"]["current"] > 0, "eth0" in s["networks"]), (64 << 20, True, True))
for s in c.stats(stream=True, decode=True):
    check("streamed stats", s["cpu_stats"]["cpu_usage"]["total_usage"] > 0, True)
    break
check("top", c.top()["Titles"][0] in ("UID", "PID"), True)

# pause, rename, update, restart, and the end.
c.pause()
c.reload()
check("paused", c.status, "paused")
c.unpause()
c.rename(prefix + "-d")
c.update(mem_limit="80m", memswap_limit="160m")
c.restart(timeout=5)
c.reload()
check("after restart", (c.name, c.status, c.attrs["HostConfig"]["Memory"]), (prefix + "-d", "running", 80 << 20))
c.stop(timeout=5)
check("wait", c.wait()["StatusCode"], 7)
image = c.commit(prefix + "-image", tag="x", changes="ENV MADE=yes")
check("commit", client.containers.run(prefix + "-image:x", ["sh", "-c", "ls /new; echo $MADE"], remove=True), b"/new\nyes\n")

minor = int(client.api.api_version.split(".")[1])
if minor >= 53:  # Docker's answer is another one since
    check("df", client.df()["VolumeUsage"]["TotalCount"] >= 1, True)
elif minor >= 25:
    df = client.df()
    mine = [v for v in df["Volumes"] if v["Name"] == vol.name]
    check("df", (mine[0]["UsageData"]["RefCount"], [x["Names"] for x in df["Containers"] if x["Id"] == c.id]), (1, [["/" + c.name]]))

actions = [e["Action"] for e in client.events(since=begun, until=int(time.time()) + 1, decode=True,
                                              filters={"container": c.id, "type": "container"})]
for action in ("create", "start", "pause", "unpause", "rename", "update", "restart", "die", "stop"):
    check("event " + action, action in actions, True)

# Pruning takes what is marked, and nothing else.
if minor >= 25:
    check("container prune", client.containers.prune(filters={"label": label})["ContainersDeleted"], [c.id])
    check("network prune", client.networks.prune(filters={"label": label})["NetworksDeleted"], [net.name])
else:
    c.remove()
    net.remove()
vol.remove()
client.images.remove(prefix + "-image:x")
for gone, error in ((lambda: client.containers.get(c.id), docker.errors.NotFound), (lambda: client.volumes.get(vol.name), docker.errors.NotFound)):
    try:
        gone()
        raise AssertionError("something is still there")
    except error:
        pass
print("ok")
