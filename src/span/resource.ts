/** An attribute value of OpenTelemetry. A number is sent as an integer when it is one, unless its attribute is listed as a double. */
export type AttributeValue = string | number | boolean | readonly string[];

/**
 * Who a span is from. One object per process (later: per container), shared by all its spans: encoders cache by identity.
 */
export interface Resource {
  /** The value of service.name, for people. */
  readonly name: string;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/** Finds the owner of a socket of this machine. */
export interface ResourceResolver {
  /** `undefined` when the socket is not known or nothing is known of its owner. */
  resourceOf(socketCookie: number): Resource | undefined;
}
