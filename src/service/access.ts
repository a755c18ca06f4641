/**
 * Who may read the routes that show traffic. Probes and metrics show none and are open.
 *
 *   - With a token each request has to carry it (RFC 6750): `Authorization: Bearer TOKEN`.
 *   - Without one the routes are refused, unless the service listens on loopback only. Then Host must be an address or `localhost`: a page that
 *     points a name of its own at this machine (DNS rebinding) is sent away.
 *   - A browser that asks for a page of another origin is refused in both cases.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { ListenAddress } from '../config/listen.ts';
import { type Answer, textAnswer } from '../telemetry/answer.ts';
import type { Request } from './request.ts';

export class Access {
  readonly #token: Buffer | undefined;
  readonly #onLoopback: boolean;

  /** @param token undefined: there is none */
  constructor(address: ListenAddress, token: string | undefined) {
    this.#token = token === undefined ? undefined : digest(token);
    this.#onLoopback = isLoopback(address.host);
  }

  /** No request is ever let in. */
  get isShut(): boolean {
    return this.#token === undefined && !this.#onLoopback;
  }

  /** @returns the refusal, or undefined when the request may be answered */
  refuse({ fields }: Request): Answer | undefined {
    if (this.isShut) {
      return textAnswer(
        403,
        'without telemetry.token_file this is answered on loopback only: set it, or listen on 127.0.0.1',
      );
    }
    if (isCrossOrigin(fields)) return textAnswer(403, 'a page of another origin may not read this');
    if (this.#token !== undefined) return this.#refuseWithoutToken(fields.get('authorization'), this.#token);
    return isOwnName(fields.get('host') ?? '') ? undefined : textAnswer(403, 'ask by an address, or by localhost');
  }

  #refuseWithoutToken(authorization: string | undefined, token: Buffer): Answer | undefined {
    const given = /^Bearer +([\w.~+/=-]+)$/i.exec(authorization ?? '')?.[1];
    // Of equal length and in constant time, whatever was given.
    if (given !== undefined && timingSafeEqual(digest(given), token)) return undefined;
    const error = authorization === undefined ? '' : ', error="invalid_token"';
    return textAnswer(401, 'a bearer token is needed: Authorization: Bearer TOKEN', {
      'www-authenticate': `Bearer realm="wirespan"${error}`,
    });
  }
}

/** Whether only this machine can reach what listens there. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** A browser says where the page is from: Fetch Metadata, Origin (RFC 6454). Other clients say neither. */
function isCrossOrigin(fields: ReadonlyMap<string, string>): boolean {
  const site = fields.get('sec-fetch-site');
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true;
  const origin = fields.get('origin');
  return origin !== undefined && origin.toLowerCase() !== `http://${fields.get('host')?.toLowerCase()}`;
}

/** `ADDRESS[:PORT]` or `localhost[:PORT]`: names that nobody can point at this machine. */
function isOwnName(host: string): boolean {
  const name = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::\d{1,5})?$/i.exec(host);
  if (name === null) return false;
  return name[1] === undefined ? name[2]!.toLowerCase() === 'localhost' || isIP(name[2]!) === 4 : isIP(name[1]) === 6;
}
