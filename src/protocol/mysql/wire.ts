/**
 * Names and numbers of the MySQL Client/Server Protocol ("MySQL Source Code Documentation", Client/Server Protocol) and of MariaDB's extensions
 * ("Client/Server Protocol" of the MariaDB documentation).
 */

/** A packet of this length is continued by the next one ("Sending More Than 16Mb"). */
export const MAX_PACKET = 0xff_ff_ff;

/** Command Phase: first byte of the packet with sequence 0. */
export const COM_QUIT = 0x01;
export const COM_INIT_DB = 0x02;
export const COM_QUERY = 0x03;
export const COM_FIELD_LIST = 0x04;
export const COM_CREATE_DB = 0x05;
export const COM_DROP_DB = 0x06;
export const COM_REFRESH = 0x07;
export const COM_SHUTDOWN = 0x08;
export const COM_STATISTICS = 0x09;
export const COM_PROCESS_INFO = 0x0a;
export const COM_PROCESS_KILL = 0x0c;
export const COM_DEBUG = 0x0d;
export const COM_PING = 0x0e;
export const COM_CHANGE_USER = 0x11;
export const COM_BINLOG_DUMP = 0x12;
export const COM_TABLE_DUMP = 0x13;
export const COM_REGISTER_SLAVE = 0x15;
export const COM_STMT_PREPARE = 0x16;
export const COM_STMT_EXECUTE = 0x17;
export const COM_STMT_SEND_LONG_DATA = 0x18;
export const COM_STMT_CLOSE = 0x19;
export const COM_STMT_RESET = 0x1a;
export const COM_SET_OPTION = 0x1b;
export const COM_STMT_FETCH = 0x1c;
export const COM_BINLOG_DUMP_GTID = 0x1e;
export const COM_RESET_CONNECTION = 0x1f;
export const COM_CLONE = 0x20;
export const COM_SUBSCRIBE_GROUP_REPLICATION_STREAM = 0x21;
/** MariaDB 10.2.7 and later. */
export const COM_STMT_BULK_EXECUTE = 0xfa;
/** MariaDB 10.2 and 10.3: several commands in one packet (MDEV-9058). */
export const COM_MULTI = 0xfe;

/** Capabilities Flags. */
export const CLIENT_LONG_PASSWORD = 1;
export const CLIENT_CONNECT_WITH_DB = 1 << 3;
export const CLIENT_COMPRESS = 1 << 5;
export const CLIENT_PROTOCOL_41 = 1 << 9;
export const CLIENT_SSL = 1 << 11;
export const CLIENT_TRANSACTIONS = 1 << 13;
export const CLIENT_SECURE_CONNECTION = 1 << 15;
export const CLIENT_MULTI_STATEMENTS = 1 << 16;
export const CLIENT_PLUGIN_AUTH = 1 << 19;
export const CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA = 1 << 21;
export const CLIENT_SESSION_TRACK = 1 << 23;
export const CLIENT_DEPRECATE_EOF = 1 << 24;
export const CLIENT_OPTIONAL_RESULTSET_METADATA = 1 << 25;
export const CLIENT_ZSTD_COMPRESSION_ALGORITHM = 1 << 26;
export const CLIENT_QUERY_ATTRIBUTES = 1 << 27;

/** MariaDB's extended capabilities: bits 32 and up, sent where MySQL has filler. */
export const MARIADB_CLIENT_COM_MULTI = 1 << 1;
export const MARIADB_CLIENT_CACHE_METADATA = 1 << 4;

/** Server Status Flags. */
export const SERVER_STATUS_IN_TRANS = 0x0001;
export const SERVER_MORE_RESULTS_EXISTS = 0x0008;
export const SERVER_STATUS_CURSOR_EXISTS = 0x0040;
export const SERVER_STATUS_LAST_ROW_SENT = 0x0080;
export const SERVER_STATUS_DB_DROPPED = 0x0100;
export const SERVER_STATUS_NO_BACKSLASH_ESCAPES = 0x0200;
export const SERVER_PS_OUT_PARAMS = 0x1000;
export const SERVER_SESSION_STATE_CHANGED = 0x4000;

/** First bytes of generic response packets. */
export const OK_HEADER = 0x00;
export const EOF_HEADER = 0xfe;
export const ERR_HEADER = 0xff;
/** LOCAL INFILE Request. */
export const LOCAL_INFILE_HEADER = 0xfb;

/** An ERR packet with this number is a progress report (MariaDB). */
export const PROGRESS_REPORT = 0xffff;
export const ER_EMPTY_QUERY = 1065;
export const ER_NO_DB_ERROR = 1046;

/** COM_SET_OPTION. */
export const MYSQL_OPTION_MULTI_STATEMENTS_ON = 0;
export const MYSQL_OPTION_MULTI_STATEMENTS_OFF = 1;

/** COM_STMT_EXECUTE flags: the parameters are counted in the packet (query attributes). */
export const PARAMETER_COUNT_AVAILABLE = 0x08;
/** Stands for the statement prepared last (MariaDB). */
export const LAST_PREPARED = 0xff_ff_ff_ff;
/** COM_STMT_BULK_EXECUTE flag. */
export const SEND_TYPES_TO_SERVER = 128;

/** Column types (enum_field_types) by how many bytes their binary value has: -1 a length in one byte first, -2 a length-encoded one. */
export function binaryWidth(type: number): number {
  switch (type) {
    case 0x06: // MYSQL_TYPE_NULL
      return 0;
    case 0x01: // MYSQL_TYPE_TINY
    case 0xf4: // MYSQL_TYPE_BOOL
      return 1;
    case 0x02: // MYSQL_TYPE_SHORT
    case 0x0d: // MYSQL_TYPE_YEAR
      return 2;
    case 0x03: // MYSQL_TYPE_LONG
    case 0x09: // MYSQL_TYPE_INT24
    case 0x04: // MYSQL_TYPE_FLOAT
      return 4;
    case 0x08: // MYSQL_TYPE_LONGLONG
    case 0x05: // MYSQL_TYPE_DOUBLE
      return 8;
    case 0x07: // MYSQL_TYPE_TIMESTAMP
    case 0x0a: // MYSQL_TYPE_DATE
    case 0x0b: // MYSQL_TYPE_TIME
    case 0x0c: // MYSQL_TYPE_DATETIME
      return -1;
    default:
      return -2;
  }
}

/** @returns the length in a packet's header, which has to be whole */
export function packetLength(bytes: Buffer, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
}

const SQL_STATE = /^[0-9A-Z]{5}$/;

/** The SQLSTATE of an ERR packet behind its number: `#` and five characters; empty when there is none. */
export function sqlState(bytes: Buffer, start: number, end: number): string {
  if (end - start < 6 || bytes[start] !== 0x23) return '';
  const state = bytes.toString('latin1', start + 1, start + 6);
  return SQL_STATE.test(state) ? state : '';
}
