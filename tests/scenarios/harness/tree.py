"""What is in a directory, and how two of them differ."""
import hashlib
import os
import stat


def _digest(path, size, swap):
    if swap and size <= 1 << 20:
        with open(path, "rb") as f:
            return hashlib.sha256(f.read().replace(*swap)).hexdigest()
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def snapshot(root, ignore=(), old=0, swap=None):
    """Path -> what can be seen of it. A time counts where somebody set it: when it is before `old`.
    `swap` replaces one root by the other's name (of equal length) in contents and links."""
    entries, links = {}, {}
    for directory, names, files in os.walk(root):
        names[:] = sorted(n for n in names
                          if os.path.relpath(os.path.join(directory, n), root) not in ignore)
        for name in sorted(names) + sorted(files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root)
            if relative in ignore:
                continue
            st = os.lstat(path)
            entry = {"kind": stat.filemode(st.st_mode)[0], "mode": oct(stat.S_IMODE(st.st_mode)),
                     "owner": (st.st_uid, st.st_gid)}
            if stat.S_ISREG(st.st_mode):
                entry["size"] = st.st_size
                try:
                    entry["content"] = _digest(path, st.st_size, swap)
                except PermissionError:
                    entry["content"] = "not for us to read"
                entry["names"] = st.st_nlink
                entry["same file as"] = links.setdefault((st.st_dev, st.st_ino), relative)
                if st.st_mtime < old:
                    entry["mtime"] = st.st_mtime_ns
            elif stat.S_ISLNK(st.st_mode):
                target = os.readlink(os.fsencode(path))
                entry["target"] = target.replace(*swap) if swap else target
                entry["names"] = st.st_nlink
                entry["same link as"] = links.setdefault((st.st_dev, st.st_ino), relative)
            try:
                entry["xattrs"] = {n: os.getxattr(path, n, follow_symlinks=False)
                                   for n in os.listxattr(path, follow_symlinks=False)}
            except OSError:
                pass
            entries[relative] = entry
    return entries


def differences(bare, cached, limit=8):
    lines = []
    for path in sorted(bare.keys() | cached.keys()):
        if path not in cached:
            lines.append(f"{path}: missing under pcache")
        elif path not in bare:
            lines.append(f"{path}: only there under pcache")
        else:
            for key in sorted(bare[path].keys() | cached[path].keys()):
                b, c = bare[path].get(key), cached[path].get(key)
                if b != c:
                    lines.append(f"{path}: {key} is {b} bare, {c} under pcache")
    if len(lines) > limit:
        lines[limit:] = [f"… {len(lines) - limit} more"]
    return lines


def times(root):
    result = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files, "."]:
            path = os.path.normpath(os.path.join(directory, name))
            try:
                st = os.lstat(path)
            except FileNotFoundError:
                continue
            result[os.path.relpath(path, root)] = (st.st_ino, st.st_mtime_ns, st.st_ctime_ns)
    return result
