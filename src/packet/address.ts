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

/**
 * The bytes of an IP address in text: dotted decimal, or IPv6 in any of the forms of RFC 4291 section 2.2, without a zone.
 *
 * @returns 4 or 16 bytes, `undefined` when it is no address
 */
export function parseAddress(text: string): Buffer | undefined {
  if (!text.includes(':')) {
    const groups = quadOf(text);
    return groups && Buffer.from([groups[0] >> 8, groups[0] & 0xff, groups[1] >> 8, groups[1] & 0xff]);
  }
  const [head, tail, ...more] = text.split('::');
  if (more.length > 0) return undefined;
  // Without `::` all eight groups are there.
  const front = groupsOf(head!, tail === undefined);
  const back = tail === undefined ? [] : groupsOf(tail, true);
  if (front === undefined || back === undefined) return undefined;
  const length = front.length + back.length;
  if (tail === undefined ? length !== 8 : length > 7) return undefined;
  const bytes = Buffer.alloc(16);
  for (const [i, group] of front.entries()) bytes.writeUInt16BE(group, 2 * i);
  for (const [i, group] of back.entries()) bytes.writeUInt16BE(group, 16 - 2 * (back.length - i));
  return bytes;
}

/** @param last whether the address ends with these groups, so that the last two may be dotted decimal */
function groupsOf(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [i, part] of parts.entries()) {
    const quad = last && i === parts.length - 1 && part.includes('.') ? quadOf(part) : undefined;
    if (quad !== undefined) groups.push(...quad);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** Dotted decimal as two groups of 16 bits. */
function quadOf(text: string): [number, number] | undefined {
  const numbers = text.split('.');
  if (numbers.length !== 4 || !numbers.every((n) => /^(?:0|[1-9]\d{0,2})$/.test(n) && Number(n) < 256))
    return undefined;
  const [a, b, c, d] = numbers.map(Number) as [number, number, number, number];
  return [(a << 8) | b, (c << 8) | d];
}
