import type { ExchangeView } from './view.ts';

/**
 * Control characters beyond those that JSON.stringify escapes, and characters that change the direction of text or end a line for some
 * readers: a terminal or a log viewer that shows the line must not obey them.
 */
const UNSAFE = /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const UNSAFE_ALL = new RegExp(UNSAFE, 'g');

/** @returns the view as one JSON object without line feeds; the same value for every reader of JSON */
export function toLine(view: ExchangeView): string {
  const text = JSON.stringify(view);
  return UNSAFE.test(text) ? text.replace(UNSAFE_ALL, escaped) : text;
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
