import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, resolve } from 'node:path';

/*
 * Files that the agent, often as root, writes where others may write, too. The owner of a folder can put a link, a FIFO or a file of his own
 * under the name that the agent is going to write, or exchange a folder on the way for a link while it does. So:
 *
 *   - the way is gone folder by folder, by descriptors; a link on it is followed only when its maker is root or the agent's user, and
 *     nobody else can exchange it;
 *   - a file is made new (O_EXCL) under a name of its own, with its mode before its first byte, and takes the place of what was there by
 *     rename(2): a link or a file of others is replaced and not written to;
 *   - where the folder cannot be written to, a file that is there already is used only if it is the agent's own, under one name, and not
 *     writable by others;
 *   - devices and FIFOs are used as they are when nobody else can have put them there.
 */

export interface OutputFileOptions {
  /** Of a new file, as open(2) takes it: the umask is taken off. */
  readonly mode: number;
  /** Exactly this mode, and no file is used that others may have opened already: it will hold secrets. */
  readonly secret?: boolean;
  /** A FIFO is opened so that its writes do not block. */
  readonly nonBlocking?: boolean;
}

/** A folder that was reached safely. */
export interface OutputFolder {
  /** Keeps it open. */
  readonly fd: number;
  /** A path of the very folder that is open, for as long as it is: `/proc/self/fd/N`. */
  readonly base: string;
}

/** The file system would allow it, but somebody else could use it. The message says what to do. */
export class UnsafePath extends Error {}

/** From asm-generic/fcntl.h, as on x86-64 and arm64: a file's name, without opening the file. */
const O_PATH = 0o10000000;
const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
const MAX_LINKS = 40;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
/** The descriptors that the process was given. */
const OWN_DESCRIPTOR = /^\/(?:dev\/(?:stdout|stderr|fd\/\d+)|proc\/self\/fd\/\d+)$/;

let nextTemporary = 1;

/**
 * Opens a file to write it from its beginning.
 * @returns a descriptor; the caller closes it
 * @throws UnsafePath when others could read or redirect what is written; Error of the file system
 */
export function openOutputFile(path: string, options: OutputFileOptions): number {
  if (OWN_DESCRIPTOR.test(path)) return openSync(path, 'w');
  return inFolderOf(path, (base, name) => {
    const there = lstat(`${base}/${name}`);
    if (there !== undefined && !there.isFile() && !there.isSymbolicLink())
      return openSpecial(base, name, there, options);
    return openNew(base, name, there, options, (fd, temporary) => {
      renameSync(temporary, `${base}/${name}`);
      return fd;
    });
  });
}

/**
 * Replaces a file by one with this text, all at once.
 * @throws as openOutputFile
 */
export function writeOutputFile(path: string, text: string, options: OutputFileOptions): void {
  const bytes = Buffer.from(text);
  const write = (fd: number): void => {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  };
  const writeAndClose = (fd: number): void => {
    try {
      write(fd);
    } finally {
      closeSync(fd);
    }
  };
  if (OWN_DESCRIPTOR.test(path)) {
    writeAndClose(openSync(path, 'w'));
    return;
  }
  inFolderOf(path, (base, name) => {
    const there = lstat(`${base}/${name}`);
    if (there !== undefined && !there.isFile() && !there.isSymbolicLink()) {
      writeAndClose(openSpecial(base, name, there, options));
      return;
    }
    const fd = openNew(
      base,
      name,
      there,
      options,
      (opened, temporary) => {
        write(opened);
        renameSync(temporary, `${base}/${name}`);
        return opened;
      },
      write,
    );
    closeSync(fd);
  });
}

/**
 * Finds out whether writeOutputFile could write there, and leaves everything as it is.
 * @throws as openOutputFile
 */
export function checkOutputFile(path: string, options: OutputFileOptions): void {
  if (OWN_DESCRIPTOR.test(path)) return;
  inFolderOf(path, (base, name) => {
    const there = lstat(`${base}/${name}`);
    if (there !== undefined && !there.isFile() && !there.isSymbolicLink()) {
      // A FIFO may get its reader later.
      if (!there.isFIFO()) closeSync(openSpecial(base, name, there, options));
      else checkSpecial(base, there);
      return;
    }
    if (there?.isFile()) checkKind(there);
    try {
      const temporary = temporaryName(name);
      closeSync(openSync(`${base}/${temporary}`, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, options.mode));
      unlinkSync(`${base}/${temporary}`);
    } catch (error) {
      if (!isRefusal(error) || there === undefined) throw error;
      closeSync(openOwn(base, name, options));
    }
  });
}

/**
 * Opens a folder, and makes it, with those above it, when it is not there.
 * @param mode of new ones
 * @throws UnsafePath when it is not the agent's own or root's; Error of the file system
 */
export function openOutputFolder(path: string, mode: number): OutputFolder {
  const fd = walk(resolve(path), mode);
  const { uid } = fstatSync(fd);
  if (isTrusted(uid)) return { fd, base: `/proc/self/fd/${fd}` };
  closeSync(fd);
  throw new UnsafePath(`it belongs to user ${uid}, who could replace what is in it; use a folder of this user's own`);
}

/**
 * Whether a file that is there may be what an earlier run has left: a regular one, of this user or root, under one name, not writable by others.
 */
export function isOwnFile(stat: Stats): boolean {
  return stat.isFile() && isTrusted(stat.uid) && stat.nlink === 1 && (stat.mode & WRITABLE_BY_OTHERS) === 0;
}

// --- The way -------------------------------------------------------------------------------------------------------------------------

function inFolderOf<T>(path: string, use: (base: string, name: string) => T): T {
  if (path === '' || path.endsWith('/')) throw Object.assign(new Error('it is a folder'), { code: 'EISDIR' });
  const absolute = resolve(path);
  const { folder, name } = followLast(absolute);
  try {
    return use(`/proc/self/fd/${folder}`, name);
  } finally {
    closeSync(folder);
  }
}

/** The folder in which a file lies, its own name followed where it is a link that may be trusted. */
function followLast(path: string): { folder: number; name: string } {
  let absolute = path;
  for (let links = 0; ; links++) {
    const folder = walk(dirname(absolute));
    const name = basename(absolute);
    const base = `/proc/self/fd/${folder}`;
    const there = lstat(`${base}/${name}`);
    // One by somebody else is not followed, and not refused: a file of the agent's takes its place.
    if (there?.isSymbolicLink() !== true || !isTrusted(there.uid) || !isSafeFolder(fstatSync(folder))) {
      return { folder, name };
    }
    if (links >= MAX_LINKS) throw Object.assign(new Error('too many links'), { code: 'ELOOP' });
    try {
      absolute = resolve(readlinkSync(base), readlinkSync(`${base}/${name}`));
    } finally {
      closeSync(folder);
    }
  }
}

/** Goes to a folder. @param make mode of folders to be made. @returns its descriptor, only to be used as a part of a path */
function walk(path: string, make?: number): number {
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .reverse();
  let fd = openSync('/', O_PATH | O_DIRECTORY);
  try {
    for (let links = 0; parts.length > 0; ) {
      const part = parts.pop()!;
      const here = `/proc/self/fd/${fd}/${part}`;
      const stat = lstat(here);
      if (stat === undefined && make !== undefined) mkdirSync(here, make);
      if (stat?.isSymbolicLink()) {
        if (++links > MAX_LINKS) throw Object.assign(new Error('too many links'), { code: 'ELOOP' });
        checkLink(fd, part, stat);
        const target = readlinkSync(here);
        parts.push(
          ...target
            .split('/')
            .filter((each) => each !== '')
            .reverse(),
        );
        if (target.startsWith('/')) fd = moved(fd, openSync('/', O_PATH | O_DIRECTORY));
        continue;
      }
      fd = moved(fd, openSync(here, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function moved(from: number, to: number): number {
  closeSync(from);
  return to;
}

/** Others must not be able to lead the way elsewhere. */
function checkLink(folder: number, name: string, link: Stats): void {
  const place = readlinkSync(`/proc/self/fd/${folder}`);
  const shown = `${place === '/' ? '' : place}/${name}`;
  if (!isTrusted(link.uid)) {
    throw new UnsafePath(`the link ${shown} belongs to user ${link.uid}; name the folder that is meant itself`);
  }
  if (!isSafeFolder(fstatSync(folder))) {
    throw new UnsafePath(`the link ${shown} lies where others may write; name the folder that is meant itself`);
  }
}

// --- The file ------------------------------------------------------------------------------------------------------------------------

/** @param place gives the new file its name. @param placeOwn the same where the file is used that is there */
function openNew(
  base: string,
  name: string,
  there: Stats | undefined,
  options: OutputFileOptions,
  place: (fd: number, temporary: string) => number,
  placeOwn: (fd: number) => void = () => {},
): number {
  const temporary = `${base}/${temporaryName(name)}`;
  let fd: number | undefined;
  try {
    fd = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, options.mode);
    if (options.secret) fchmodSync(fd, options.mode);
    return place(fd, temporary);
  } catch (error) {
    if (fd !== undefined) {
      closeSync(fd);
      unlinkSync(temporary);
    }
    // The folder may be read-only, or the file be mounted there: then what is there is written, if it is the agent's.
    if (!isRefusal(error) || there === undefined) throw error;
  }
  const own = openOwn(base, name, options);
  ftruncateSync(own, 0);
  placeOwn(own);
  return own;
}

/** @throws UnsafePath unless it is a file of the agent's alone */
function openOwn(base: string, name: string, options: OutputFileOptions): number {
  const fd = openSync(`${base}/${name}`, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    checkKind(stat);
    if (!isOwnFile(stat)) {
      throw new UnsafePath(
        'the file that is there belongs to others, or is writable by them, or has a second name; remove it',
      );
    }
    if (options.secret && (stat.mode & 0o777 & ~options.mode) !== 0) {
      throw new UnsafePath('the file that is there could be read by others, and will hold secrets; remove it');
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A device, or a FIFO. */
function openSpecial(base: string, name: string, there: Stats, options: OutputFileOptions): number {
  checkKind(there);
  checkSpecial(base, there);
  let fd: number;
  try {
    // Without a reader the opening of a FIFO would wait for one.
    fd = openSync(`${base}/${name}`, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
    throw new Error('the pipe has no reader; start it first');
  }
  if (options.nonBlocking) return fd;
  try {
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NOCTTY);
  } finally {
    closeSync(fd);
  }
}

function checkKind(stat: Stats): void {
  if (stat.isDirectory()) throw Object.assign(new Error('it is a folder'), { code: 'EISDIR' });
  if (stat.isFile() || stat.isFIFO() || stat.isCharacterDevice()) return;
  throw new UnsafePath('it is neither a file nor a pipe');
}

/** What others have put there would read what is written. */
function checkSpecial(base: string, there: Stats): void {
  if (isTrusted(there.uid) && isSafeFolder(statSync(`${base}/.`))) return;
  throw new UnsafePath(
    'others may have put this pipe or device there; use one in a folder that only this user may write to',
  );
}

/** Not longer than a name may be, and never that of another process or another call. */
function temporaryName(name: string): string {
  return `.${Buffer.from(name)
    .toString('latin1', 0, 100)
    .replace(/[^\w.-]/g, '_')}.${process.pid}.${nextTemporary++}`;
}

function isTrusted(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/** In it nobody but root and this user can exchange what they have made. */
function isSafeFolder({ uid, mode }: Stats): boolean {
  return isTrusted(uid) && ((mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0);
}

/** The folder takes no new file, which says nothing of the file that is in it. */
function isRefusal(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EROFS', 'EBUSY'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function lstat(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}
