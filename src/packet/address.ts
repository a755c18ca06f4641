/**
 * The textual form of an IP address: dotted decimal, or RFC 5952 for IPv6; an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) is
 * written as IPv4.
 *
 * @param length 4 or 16
 */
export function formatAddress(bytes: Buffer, start: number, length: number): string {
  if (length === 4) return `${bytes[start]}.${bytes[start + 1]}.${bytes[start + 2]}.${bytes[start + 3]}`;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[start + i]! << 8) | bytes[start + i + 1]!);
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0))
    return formatAddress(bytes, start + 12, 4);
  const [zerosStart, zerosEnd] = longestZeros(groups);
  if (zerosEnd - zerosStart < 2) return hex(groups);
  return `${hex(groups.slice(0, zerosStart))}::${hex(groups.slice(zerosEnd))}`;
}

/** RFC 5952 4.2.3: the longest run of zero groups, the first of equals. */
function longestZeros(groups: readonly number[]): [number, number] {
  let best: [number, number] = [0, 0];
  let start = 0;
  for (let i = 0; i <= groups.length; i++) {
    if (groups[i] === 0) continue;
    if (i - start > best[1] - best[0]) best = [start, i];
    start = i + 1;
  }
  return best;
}

function hex(groups: readonly number[]): string {
  return groups.map((group) => group.toString(16)).join(':');
}
