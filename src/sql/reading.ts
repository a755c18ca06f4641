/**
 * By which rules a server reads the next text of a session. A setting may change while texts are on their way, so what is known is a set:
 * every rule that may hold when the server comes to the text. The lexer then takes what all of them agree on, and doubts the rest.
 */
import type { BackslashRule } from './lexer.ts';

/**
 * How the bytes of a text stand for characters. `unsafe`: a client encoding whose multi-byte characters may contain ASCII bytes
 * (SJIS, BIG5, GBK, GB18030, UHC, JOHAB), so that nobody can say where a literal ends: no text leaves.
 */
export type TextEncoding = 'utf8' | 'latin1' | 'unsafe';

/** The rule that agrees with both of these: `unknown` stands for the set of all. */
export function eitherBackslash(one: BackslashRule, other: BackslashRule): BackslashRule {
  return one === other ? one : 'unknown';
}

/**
 * How bytes[start..end) may be read when nobody knows the encoding of the client. All that servers take keep ASCII bytes, except that
 * the second byte of some characters (SJIS, BIG5, GBK, GB18030, UHC, JOHAB) is an ASCII byte from `0` on. Where each of these that follows
 * a byte from 0x80 on is a letter, a digit or `_`, it is part of the same word in all of them.
 */
export function agreedEncoding(bytes: Buffer, start: number, end: number): TextEncoding {
  for (let at = start + 1; at < end; at++) {
    if (bytes[at - 1]! >= 0x80 && mayBeSecond(bytes[at]!)) return 'unsafe';
  }
  return 'utf8';
}

/** A character other than those of words that may be the second byte of another one. */
function mayBeSecond(byte: number): boolean {
  if (byte < 0x3a || byte >= 0x7f || byte === 0x5f) return false;
  return byte <= 0x40 || (byte >= 0x5b && byte <= 0x60) || byte >= 0x7b;
}

/**
 * What a session says of the rules, and what is on its way to change them.
 *
 *     said...()   the server said that it holds from now on
 *     sent()      a message was sent whose execution may change any of them
 *     settled()   everything that was sent is answered, and the server has said what has changed
 *     lost()      what the server said may have been lost
 */
export class ReadingRules {
  private said: BackslashRule = 'unknown';
  /** Undefined: nobody has said it. */
  private encoding: TextEncoding | undefined = undefined;
  private changing = false;
  /** It may have become another one, unseen. */
  private encodingDoubted = false;

  saidBackslash(rule: BackslashRule): void {
    this.said = rule;
  }

  /** @param encoding undefined when a name says nothing, such as `auto` */
  saidEncoding(encoding: TextEncoding | undefined): void {
    this.encoding = encoding;
    this.encodingDoubted = false;
  }

  /** The encoding may have become another one. */
  doubtEncoding(): void {
    this.encodingDoubted = true;
  }

  sent(): void {
    this.changing = true;
  }

  settled(): void {
    this.changing = false;
  }

  lost(): void {
    this.said = 'unknown';
    this.encodingDoubted = true;
  }

  /** For a text that is sent now. */
  get backslash(): BackslashRule {
    return this.changing ? 'unknown' : this.said;
  }

  /** For the text bytes[start..end) that is sent now. */
  encodingOf(bytes: Buffer, start: number, end: number): TextEncoding {
    if (this.encoding === 'unsafe') return 'unsafe';
    if (this.encoding === undefined) return isAscii(bytes, start, end) ? 'utf8' : 'unsafe';
    return this.changing || this.encodingDoubted ? agreedEncoding(bytes, start, end) : this.encoding;
  }
}

/** No byte of bytes[start..end) is one of a longer character. */
export function isAscii(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (bytes[at]! >= 0x80) return false;
  return true;
}
