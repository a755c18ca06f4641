/** An attribute value of OpenTelemetry. A number is sent as an integer when it is one, unless its attribute is listed as a double. */
export type AttributeValue = string | number | boolean | readonly string[];

/**
 * Who a span is from. One object per process, in Kubernetes per container, shared by all its spans: encoders cache by identity. When more
 * becomes known, later spans have another one.
 */
export interface Resource {
  /** The value of service.name, for people. */
  readonly name: string;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/** What of a process is watched. */
export interface Watched {
  /** Requests that come in: SERVER spans. */
  readonly in: boolean;
  /** Requests that go out: CLIENT spans. */
  readonly out: boolean;
}

export const watchedFully: Watched = { in: true, out: true };
export const unwatched: Watched = { in: false, out: false };

/** All that there is to know; more is about to come; more should have come and has not. */
export type Knowledge = 'known' | 'pending' | 'given_up';

/** Finds the owner of a socket of this machine. */
export interface ResourceResolver {
  /** It follows a directory of pods: what it says of an owner may change, and not every owner is watched. */
  readonly knowsPods?: boolean;
  /** `undefined` when the socket is not known or nothing is known of its owner. */
  resourceOf(socketCookie: number): Resource | undefined;
  /** Whether it is worth waiting for more about its owner. Only of one that knows pods; else what it says is `known`. */
  knowledgeOf?(socketCookie: number): Knowledge;
  /** Only of one that knows pods; else everything is watched. */
  watchedOf?(socketCookie: number): Watched;
}
