/**
 * A client of MySQL's protocol that sends what no connector sends: commands behind one another without waiting, options in mid-connection,
 * files, texts in any encoding. It prints what the server answered, one line of JSON per step.
 *
 * Argument: JSON of {host, port, user, password, database, capabilities, collation, files, steps}. A step is a list of commands that are sent
 * at once: `{query}`, `{latin1}` (a text by its bytes), `{prepare}`, `{execute}` and others by the number of the statement, `{file}` what is sent
 * for the next LOCAL INFILE request, `{raw}` a payload in hexadecimal digits. Numbers of statements: 'last' is MariaDB's -1.
 */
import { createHash } from 'node:crypto';
import { connect } from 'node:net';

const CAPABILITIES = 0x0000_0001 | 0x0000_0080 | 0x0000_0200 | 0x0000_2000 | 0x0000_8000 | 0x0006_0000 | 0x0008_0000;
const CONNECT_WITH_DB = 8;
const MULTI_STATEMENTS = 1 << 16;
const SESSION_TRACK = 1 << 23;
const DEPRECATE_EOF = 1 << 24;
const MORE_RESULTS = 8;
const CURSOR_EXISTS = 0x40;

const sha1 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha1')).digest();
const number = (id) => (id === 'last' ? 0xff_ff_ff_ff : id);

function u32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

function framed(sequence, payload) {
  const header = Buffer.from([
    payload.length & 0xff,
    (payload.length >> 8) & 0xff,
    payload.length >> 16,
    sequence & 0xff,
  ]);
  return Buffer.concat([header, payload]);
}

function lengthEncoded(bytes, at) {
  const first = bytes[at];
  if (first < 0xfb) return [first, at + 1];
  if (first === 0xfc) return [bytes.readUInt16LE(at + 1), at + 3];
  if (first === 0xfd) return [bytes.readUIntLE(at + 1, 3), at + 4];
  return [Number(bytes.readBigUInt64LE(at + 1)), at + 9];
}

/** The native method of authentication. */
function scrambled(password, salt) {
  if (password === '') return Buffer.alloc(0);
  const once = sha1(password);
  const mask = sha1(salt, sha1(once));
  return once.map((byte, i) => byte ^ mask[i]);
}

class Client {
  constructor(task) {
    this.task = task;
    this.capabilities = CAPABILITIES;
    if (task.database) this.capabilities |= CONNECT_WITH_DB;
    if (task.multi !== false) this.capabilities |= MULTI_STATEMENTS;
    if (task.track) this.capabilities |= SESSION_TRACK;
    if (task.deprecateEof) this.capabilities |= DEPRECATE_EOF;
    this.files = [];
    this.buffered = Buffer.alloc(0);
    this.waiting = undefined;
    this.socket = connect(task.port, task.host);
    this.socket.setNoDelay(true);
    this.socket.on('data', (data) => {
      this.buffered = Buffer.concat([this.buffered, data]);
      this.waiting?.();
    });
    this.socket.on('error', (error) => this.fail(error));
    this.socket.on('close', () => this.fail(new Error('closed')));
    this.ended = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.ended.catch(() => {});
  }

  async packet() {
    for (;;) {
      if (this.buffered.length >= 4) {
        const length = this.buffered.readUIntLE(0, 3);
        if (this.buffered.length >= 4 + length) {
          this.sequence = this.buffered[3];
          const payload = this.buffered.subarray(4, 4 + length);
          this.buffered = this.buffered.subarray(4 + length);
          return payload;
        }
      }
      await Promise.race([
        this.ended,
        new Promise((resolve) => {
          this.waiting = resolve;
        }),
      ]);
    }
  }

  async login() {
    const greeting = await this.packet();
    const versionEnd = greeting.indexOf(0, 1);
    this.version = greeting.toString('latin1', 1, versionEnd);
    const salt = Buffer.concat([
      greeting.subarray(versionEnd + 5, versionEnd + 13),
      greeting.subarray(versionEnd + 32, versionEnd + 44),
    ]);
    const { user, password, database = '', collation = 45 } = this.task;
    const proof = scrambled(password, salt);
    const head = Buffer.concat([u32(this.capabilities), u32(1 << 24), Buffer.from([collation]), Buffer.alloc(23)]);
    const names = [
      `${user}\0`,
      Buffer.from([proof.length]),
      proof,
      database ? `${database}\0` : '',
      'mysql_native_password\0',
    ];
    this.socket.write(framed(1, Buffer.concat([head, ...names.map((part) => Buffer.from(part))])));
    const answer = await this.packet();
    if (answer[0] !== 0) throw new Error(`login: ${answer.toString('latin1')}`);
  }

  /** Payload of a command; what is not answered is marked. */
  payloadOf(command) {
    const [[kind, value]] = Object.entries(command);
    const on = (code, rest = []) => Buffer.concat([Buffer.from([code]), u32(number(value)), Buffer.from(rest)]);
    switch (kind) {
      case 'query':
        return Buffer.concat([Buffer.from([3]), Buffer.from(value)]);
      case 'latin1':
        return Buffer.concat([Buffer.from([3]), Buffer.from(value, 'latin1')]);
      case 'prepare':
        return Buffer.concat([Buffer.from([0x16]), Buffer.from(value)]);
      case 'execute':
        return on(0x17, [0, 1, 0, 0, 0]);
      case 'close':
        return on(0x19);
      case 'reset':
        return on(0x1a);
      case 'initDb':
        return Buffer.concat([Buffer.from([2]), Buffer.from(value)]);
      case 'dropDb':
        return Buffer.concat([Buffer.from([6]), Buffer.from(value)]);
      case 'option':
        return Buffer.from([0x1b, value, 0]);
      case 'resetConnection':
        return Buffer.from([0x1f]);
      case 'ping':
        return Buffer.from([0x0e]);
      case 'raw':
        return Buffer.from(value, 'hex');
      case 'changeUser': {
        const { user, database, collation = 45 } = { user: this.task.user, database: '', ...value };
        const parts = [
          `\x11${user}\0`,
          Buffer.from([0]),
          `${database}\0`,
          Buffer.from([collation, 0]),
          'mysql_native_password\0',
        ];
        return Buffer.concat(parts.map((part) => Buffer.from(part)));
      }
      default:
        throw new Error(`unknown command ${kind}`);
    }
  }

  async step(commands) {
    const sent = [];
    const out = [];
    for (const command of commands) {
      if ('file' in command) this.files.push(command.file);
      else {
        sent.push(framed(0, this.payloadOf(command)));
        if (!('close' in command)) out.push(command);
      }
    }
    this.socket.write(Buffer.concat(sent));
    const answers = [];
    for (const command of out) answers.push(await this.answer(command));
    return answers;
  }

  async answer(command) {
    const results = [];
    for (;;) {
      const one = await this.result(command);
      results.push(one);
      if (!(one.status & MORE_RESULTS)) return results;
    }
  }

  error(payload) {
    return { error: payload.readUInt16LE(1), message: payload.toString('utf8', 9), status: 0 };
  }

  ended_(payload) {
    if (payload.length < 6) return { status: payload.length < 5 ? 0 : payload.readUInt16LE(3) };
    const [affected, at] = lengthEncoded(payload, 1);
    const [, next] = lengthEncoded(payload, at);
    const tail = payload.subarray(next + 4);
    return {
      affected,
      status: payload.readUInt16LE(next),
      warnings: payload.readUInt16LE(next + 2),
      ...(tail.length ? { tail: tail.toString('latin1') } : {}),
    };
  }

  async result(command) {
    const first = await this.packet();
    if (first[0] === 0xff) return this.error(first);
    if (first[0] === 0xfb) {
      for (const chunk of this.files.shift() ?? []) this.socket.write(framed(++this.sequence, Buffer.from(chunk)));
      this.socket.write(framed(++this.sequence, Buffer.alloc(0)));
      return this.result(command);
    }
    if (first[0] === 0xfe && 'changeUser' in command) {
      const salt = first.subarray(first.indexOf(0, 1) + 1, first.length - 1);
      this.socket.write(framed(this.sequence + 1, scrambled(command.changeUser?.password ?? this.task.password, salt)));
      return this.result(command);
    }
    if ('prepare' in command && first[0] === 0) {
      const id = first.readUInt32LE(1);
      for (const count of [first.readUInt16LE(7), first.readUInt16LE(5)]) {
        for (let i = 0; i < count; i++) await this.packet();
        if (count > 0 && !this.task.deprecateEof) await this.packet();
      }
      return { id, status: 0 };
    }
    if (first[0] === 0 || first[0] === 0xfe) return this.ended_(first);
    const [columns] = lengthEncoded(first, 0);
    for (let i = 0; i < columns; i++) await this.packet();
    if (!this.task.deprecateEof) {
      const { status } = this.ended_(await this.packet());
      if (status & CURSOR_EXISTS) return { rows: 0, status };
    }
    let firstRow = '';
    for (let rows = 0; ; rows++) {
      const packet = await this.packet();
      if (packet[0] === 0xff) return { rows, ...this.error(packet) };
      if (packet[0] === 0xfe && packet.length < 0xffffff) return { rows, firstRow, ...this.ended_(packet) };
      if (rows === 0) firstRow = packet.toString('latin1', 0, 80);
    }
  }
}

const task = JSON.parse(process.argv[2]);
const client = new Client(task);
await client.login();
for (const commands of task.steps) {
  try {
    console.log(JSON.stringify(await client.step(Array.isArray(commands) ? commands : [commands])));
  } catch (error) {
    console.log(JSON.stringify({ closed: error.message }));
    break;
  }
}
client.socket.end(framed(0, Buffer.from([1])));
