/** How much of a file is looked through for a version or the traces of a library; tens of milliseconds. */
export const SEARCH_BYTES = 128 * 1024 * 1024;
