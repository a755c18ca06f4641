import { K, keywordSet } from './keywords.ts';
import { Token } from './lexer.ts';

const OPEN = 0x28;
const CLOSE_BRACKETS = [0x29, 0x5d];
const DOT = 0x2e;

/** Statements that run the functions they name. Behind SELECT any does: CREATE TABLE ... AS SELECT. */
const runs = keywordSet('INSERT', 'UPDATE', 'DELETE', 'MERGE', 'VALUES', 'COPY', 'WITH', 'EXECUTE', 'SELECT', 'TABLE');
/** A name behind one of these is no function, though a parenthesis follows: a table with its columns, an alias, a type. */
const notBefore = keywordSet('INTO', 'AS', 'TABLE', 'COPY', 'UPDATE', 'RECURSIVE', 'EXECUTE', 'SAVEPOINT');

/**
 * Functions and words of the grammar that a parenthesis follows and that leave the settings of the session alone: what comes with the
 * server and its usual extensions, as far as applications use it.
 */
const HARMLESS_FAMILY = new RegExp(
  `^(?:${[
    'pg_(?!extension_config_dump).*|jsonb?_.*|array_.*|string_.*|regexp_.*|regr_.*|covar_.*|percentile_.*|txid_.*|inet_.*|st_.*|uuid_.*',
    'has_.*_privilege|(?:col|obj|shobj)_description|xml(?!_to).*|ts_(?!stat|rewrite).*|(?:phrase|plain|websearch_)?to_ts(?:vector|query)',
    'to_(?:char|date|timestamp|number|jsonb?|ascii|hex|bin|oct|reg.*)|date_(?:part|trunc|bin|add|subtract)|gen_random_.*',
    'current_(?:database|schemas?|setting|query|catalog|user|date|time|timestamp)|make_(?:date|time.*|interval)|(?:var|stddev)_(?:pop|samp)',
    'bool_(?:and|or)|bit_(?:and|or|xor|count|length)|quote_.*|sha(?:224|256|384|512)|[gs]et_(?:bit|byte)|generate_(?:series|subscripts)',
    '(?:first|last|nth)_value|(?:dense|percent)_rank|cume_dist|row_(?:number|to_json|security_active)|range_(?:merge|agg|intersect_agg)',
    '(?:int[48]|num|ts|tstz|date)(?:multi)?range|(?:lower|upper)(?:_inc|_inf)?|to_reg.*|enum_(?:first|last|range)|num_(?:non)?nulls',
  ].join('|')})$`,
);
const HARMLESS = new Set(
  `abs acos acosd acosh age any_value area ascii asin asind asinh atan atan2 atan2d atand atanh avg bigint bit boolean box bpchar
  broadcast btrim cardinality cbrt ceil ceiling center char character char_length character_length chr circle clock_timestamp coalesce
  collation concat concat_ws conflict convert convert_from convert_to corr cos cosd cosh cot cotd count crc32 cube cidr date dec decimal decode
  degrees diagonal diameter div double encode erf erfc every exp extract factorial family filter float float4 float8 floor format format_type
  gcd greatest grouping groups height hash hashtext hashtextextended host hostmask include initcap int int4 int8 interval integer isclosed
  isempty isfinite isopen json jsonb justify_days justify_hours justify_interval key lag lastval lcm lead least left length line ln log log10
  lpad lseg ltrim macaddr masklen max md5 min min_scale mod mode name nchar negate netmask network nextval currval normalize now npoints ntile
  nullif number numeric octet_length over overlay overlaps parse_ident path pclose phraseto pi point polygon popen position power precision
  radians random random_normal rank real repeat replace reverse right rollup round row rows rpad rtrim scale sets setseed setval setweight sign
  sin sind sinh slope smallint split_part sqrt starts_with statement_timestamp stddev strip strpos substr substring sum system bernoulli tan
  tand tanh text time timeofday timestamp timestamptz timetz transaction_timestamp translate treat trim trim_array trim_scale trunc unistr
  unnest uuid varbit varchar variance varying version width width_bucket within zone similarity word_similarity unaccent crypt gen_salt digest
  hmac operator nlevel subpath hstore akeys avals skeys svals
  all and any array as between by case conflict cross default distinct do else end escape except exists fetch for from full group having
  ilike in index inner intersect into is join lateral like limit materialized not nothing of offset on only or order ordinality overriding
  partition returning select set similar some table tablesample then to union update using values when where window with`
    .split(/\s+/)
    .filter((word) => word !== ''),
);
const SET_CONFIG = 'set_config';
const LONGEST_NAME = 64;

/**
 * Which functions a statement of PostgreSQL calls, as far as it matters for the session's settings: one of the user's own may set them.
 */
export class PostgresCalls {
  /** A function that is not known is called. */
  unknown = false;
  setConfig = false;
  private running = false;
  private updates = false;
  private first = true;
  /** The name that was read last, and what stands before it. */
  private named = false;
  private nameStart = 0;
  private nameEnd = 0;
  private nameAllowed = true;
  private dotted = false;
  /** What was read last may be followed by a function's name: it is no operand. */
  private allowed = true;
  private literalStart = -1;
  private literalEnd = -1;
  /** Tokens behind the parenthesis of set_config; 0: not there. */
  private argument = 0;
  private argumentsLost = false;

  begin(): void {
    this.unknown = false;
    this.setConfig = false;
    this.running = false;
    this.updates = false;
    this.first = true;
    this.named = false;
    this.nameAllowed = true;
    this.dotted = false;
    this.allowed = true;
    this.literalStart = -1;
    this.literalEnd = -1;
    this.argument = 0;
    this.argumentsLost = false;
  }

  token(kind: number, keyword: number, character: number, bytes: Buffer, start: number, end: number): void {
    if (this.first || keyword === K.SELECT) {
      this.running ||= runs[keyword] === 1 || keyword === K.EXPLAIN;
      this.updates ||= keyword === K.UPDATE;
      this.first = false;
    }
    if (!this.running || this.unknown) return;
    if (this.argument > 0) this.argumentToken(kind, character, start, end);
    if (kind === Token.NAME || kind === Token.WORD) {
      this.nameToken(keyword, bytes, start, end);
      return;
    }
    if (character === OPEN && this.named && this.nameAllowed) this.call(bytes);
    if (character === DOT && this.named) this.dotted = true;
    else {
      this.dotted = false;
      this.allowed = kind === Token.PUNCTUATION && !CLOSE_BRACKETS.includes(character);
    }
    this.named = false;
  }

  private nameToken(keyword: number, bytes: Buffer, start: number, end: number): void {
    if (!this.dotted) this.nameAllowed = this.allowed;
    this.dotted = false;
    this.named = true;
    this.nameStart = start;
    this.nameEnd = end;
    // A view whose rule calls set_config.
    if (this.updates && nameOf(bytes, start, end) === 'pg_settings') this.unknown = true;
    this.allowed = keyword !== 0 && notBefore[keyword] === 0;
  }

  /** The name that was read last is called. */
  private call(bytes: Buffer): void {
    const name = nameOf(bytes, this.nameStart, this.nameEnd);
    if (name === SET_CONFIG) {
      // A second one: which of them is done last?
      if (this.setConfig) this.unknown = true;
      this.setConfig = true;
      this.argument = 1;
    } else if (!HARMLESS.has(name) && !HARMLESS_FAMILY.test(name)) this.unknown = true;
  }

  private argumentToken(kind: number, character: number, start: number, end: number): void {
    if (this.argument === 1 && kind === Token.LITERAL) {
      this.literalStart = start;
      this.literalEnd = end;
    } else if (this.argument === 1 || character !== 0x2c) this.argumentsLost = true;
    this.argument = this.argument === 1 ? 2 : 0;
  }

  /** Whether the setting that set_config sets is the search path; undefined: nobody can say. */
  isPath(text: (start: number, end: number) => string): boolean | undefined {
    if (this.argumentsLost || this.literalStart < 0) return undefined;
    const written = text(this.literalStart, this.literalEnd);
    return /^'[^'\\]*'$/.test(written) ? written.toLowerCase() === "'search_path'" : undefined;
  }
}

function nameOf(bytes: Buffer, start: number, end: number): string {
  const quoted = bytes[start] === 0x22;
  // Longer names are of no function of the server, and U&"..." may stand for any.
  if (end - start > LONGEST_NAME) return '';
  const written = bytes.toString('latin1', start, end);
  return quoted ? written.slice(1, -1) : written.toLowerCase();
}
