/**
 * What the file system said no for, in words.
 *
 * @param error of a call that was given a path
 * @param use what it was opened for: a file that is to be written need not exist, but its folder must
 */
export function whyNot(error: unknown, use: 'read' | 'write'): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return use === 'read' ? 'there is no such file' : 'there is no such folder';
    case 'ENOTDIR':
      return 'a part of the path is a file, not a folder';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a folder, not a file';
    case 'ENOSPC':
      return 'the disk is full';
    case 'EROFS':
      return 'the file system is read-only';
    default:
      return error instanceof Error ? error.message : String(error);
  }
}
