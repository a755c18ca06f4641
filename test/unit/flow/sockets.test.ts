import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DIRECTION_EGRESS, DIRECTION_INGRESS } from '../../../src/capture/records.ts';
import { FlowHarness, socketRecord } from '../../support/wire/flows.ts';

describe('FlowTable: sockets', () => {
  const egress = { direction: DIRECTION_EGRESS } as const;
  const ingress = { direction: DIRECTION_INGRESS } as const;
  const LISTENER = 7;
  const CLIENT = 8;
  const SERVER = 9;

  it('joins two sockets of this machine and parses their bytes once', () => {
    const flows = new FlowHarness();
    const lo = { ifindex: 1, netns: 4_026_531_840 };
    assert.equal(flows.client({ ...lo, ...egress, cookie: CLIENT, seq: 100, flags: 'S' }).duplicateView, false);
    assert.equal(flows.client({ ...lo, ...ingress, cookie: LISTENER, seq: 100, flags: 'S' }).duplicateView, true);
    // The kernel answers by itself: no socket.
    flows.server({ ...lo, ...egress, cookie: 0, seq: 500, ack: 101, flags: 'S' });
    flows.server({ ...lo, ...ingress, cookie: CLIENT, seq: 500, ack: 101, flags: 'S' });
    const request = { ...lo, seq: 101, ack: 501, payload: 'q' };
    assert.equal(flows.client({ ...request, ...egress, cookie: CLIENT }).duplicateView, false);
    const { connection } = flows.layer;
    assert.deepEqual([connection.client.socket, connection.server.socket], [CLIENT, 0]);
    assert.equal(flows.client({ ...request, ...ingress, cookie: SERVER }).duplicateView, true);
    flows.server({ ...lo, ...egress, cookie: SERVER, seq: 501, ack: 102, payload: 'r' });
    const copy = flows.server({ ...lo, ...ingress, cookie: CLIENT, seq: 501, ack: 102, payload: 'r' });
    assert.equal(copy.duplicateView, true);
    assert.equal(copy.connection, connection);
    assert.deepEqual([connection.client.socket, connection.server.socket], [CLIENT, SERVER]);
    for (const view of [egress, ingress]) {
      const fin = flows.client({
        ...lo,
        ...view,
        cookie: view === egress ? CLIENT : SERVER,
        seq: 102,
        ack: 502,
        flags: 'F',
      });
      assert.equal(fin.duplicateView, view === ingress);
    }
    for (const view of [egress, ingress]) {
      const fin = flows.server({
        ...lo,
        ...view,
        cookie: view === egress ? SERVER : CLIENT,
        seq: 502,
        ack: 103,
        flags: 'F',
      });
      assert.equal(fin.duplicateView, view === ingress);
      assert.equal(fin.connection, view === egress ? connection : undefined, 'it ended with the packet before');
    }
    assert.deepEqual(flows.layer.log, ['> q', '< r', '> end fin', '< end fin', 'close fin']);
    assert.equal(flows.counters.connections.tcp, 1);
    assert.equal(flows.counters.reassembly.retransmission, undefined);
  });

  it('uses an arriving copy of what was not seen leaving', () => {
    const flows = new FlowHarness();
    flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
    flows.client({ ...egress, cookie: CLIENT, seq: 104, payload: 'def' });
    assert.equal(flows.client({ ...ingress, cookie: SERVER, seq: 101, payload: 'abc' }).duplicateView, false);
    assert.deepEqual(flows.layer.log, ['> abc', '> def']);
  });

  it('keeps the same loopback addresses in two network namespaces apart', () => {
    const flows = new FlowHarness();
    for (const netns of [1, 2]) {
      const options = { ...egress, ifindex: 1, netns, from: '127.0.0.1', to: '127.0.0.1' };
      flows.client({ ...options, cookie: 10 + netns, seq: 100, flags: 'S' });
      flows.client({ ...options, cookie: 10 + netns, seq: 101, payload: `n${netns}` });
    }
    assert.deepEqual(
      flows.layers.map((layer) => layer.log[0]),
      ['> n1', '> n2'],
    );
  });

  it('joins an announced socket that has not sent yet by its peer, in either order', () => {
    for (const first of ['socket', 'packet']) {
      const flows = new FlowHarness();
      const announce = () => flows.table.socket(socketRecord({ cookie: SERVER, peerCookie: CLIENT }));
      if (first === 'socket') announce();
      flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
      flows.client({ ...egress, cookie: CLIENT, seq: 101, ack: 501, payload: 'q' });
      if (first === 'packet') announce();
      assert.deepEqual([flows.layer.connection.client.socket, flows.layer.connection.server.socket], [CLIENT, SERVER]);
    }
  });

  it('lets the accepted socket take the place of a listener that was announced with the peer', () => {
    const flows = new FlowHarness();
    flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
    flows.table.socket(socketRecord({ cookie: LISTENER, peerCookie: CLIENT }));
    flows.client({ ...egress, cookie: CLIENT, seq: 101, ack: 501, payload: 'q' });
    flows.table.socket(socketRecord({ cookie: SERVER, peerCookie: CLIENT }));
    assert.equal(flows.layer.connection.server.socket, SERVER);
    flows.server({ ...egress, cookie: SERVER, seq: 501, ack: 102, payload: 'r' });
    flows.table.socket(socketRecord({ cookie: LISTENER, peerCookie: CLIENT }));
    assert.equal(flows.layer.connection.server.socket, SERVER);
  });

  it("never takes a listener's cookie for a connection", () => {
    const flows = new FlowHarness();
    for (const srcPort of [1001, 1002]) {
      const remote = { ...ingress, srcPort, cookie: LISTENER };
      flows.client({ ...remote, seq: 100, flags: 'S' });
      flows.server({ ...egress, dstPort: srcPort, cookie: LISTENER, seq: 500, ack: 101, flags: 'S' });
      // The ACK that ends the handshake carries data and is seen at the listener.
      flows.client({ ...remote, seq: 101, ack: 501, payload: `from ${srcPort}` });
      flows.client({ ...ingress, srcPort, cookie: srcPort, seq: 110, ack: 501, payload: '.' });
      flows.server({ ...egress, dstPort: srcPort, cookie: srcPort, seq: 501, ack: 111, payload: 'r' });
    }
    assert.deepEqual(
      flows.layers.map((layer) => layer.log),
      [
        ['> from 1001', '> .', '< r'],
        ['> from 1002', '> .', '< r'],
      ],
    );
    assert.deepEqual(
      flows.layers.map((layer) => layer.connection.server.socket),
      [1001, 1002],
    );
  });

  it('tells a later connection by its socket when its SYN was not seen', () => {
    const flows = new FlowHarness();
    flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
    flows.client({ ...egress, cookie: CLIENT, seq: 101, payload: 'old' });
    flows.client({ ...egress, cookie: 88, seq: 5000, payload: 'new' });
    assert.deepEqual(flows.layers[0]!.log.at(-1), 'close reused');
    assert.deepEqual(flows.layers[1]!.log, ['> new']);
    assert.equal(flows.layers[1]!.connection.client.socket, 88);
  });

  describe('whose addresses this machine itself translates', () => {
    // What leaves is seen behind the translation, what arrives is seen behind its reverse: one socket, two pairs of ends.
    const SERVICE = { from: '10.96.0.1', srcPort: 443 };
    const open = (flows: FlowHarness): void => {
      flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
      flows.server({ ...ingress, ...SERVICE, cookie: CLIENT, seq: 500, ack: 101, flags: 'S' });
      flows.client({ ...egress, cookie: CLIENT, seq: 101, ack: 501, payload: 'q' });
      flows.server({ ...ingress, ...SERVICE, cookie: CLIENT, seq: 501, ack: 102, payload: 'r' });
    };

    it('are one connection by the socket', () => {
      const flows = new FlowHarness();
      open(flows);
      flows.server({ ...ingress, ...SERVICE, cookie: CLIENT, seq: 502, ack: 102, flags: 'F' });
      flows.client({ ...egress, cookie: CLIENT, seq: 102, ack: 503, flags: 'F' });
      assert.deepEqual(flows.layer.log, ['> q', '< r', '< end fin', '> end fin', 'close fin']);
      assert.deepEqual(flows.layer.connection.initialSequence, [100, 500], 'both ends compute the same ids');
      assert.equal(flows.counters.connections.tcp, 1);
    });

    it('end by a reset that arrives', () => {
      const flows = new FlowHarness();
      open(flows);
      flows.server({ ...ingress, ...SERVICE, cookie: CLIENT, seq: 502, ack: 102, flags: 'R' });
      assert.equal(flows.layer.log.at(-1), 'close reset');
    });

    it('are joined with the socket at the other end, which sees one pair only', () => {
      const flows = new FlowHarness();
      flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
      flows.server({ ...egress, cookie: LISTENER, seq: 500, ack: 101, flags: 'S' });
      flows.server({ ...ingress, ...SERVICE, cookie: CLIENT, seq: 500, ack: 101, flags: 'S' });
      flows.client({ ...egress, cookie: CLIENT, seq: 101, ack: 501, payload: 'q' });
      flows.client({ ...ingress, cookie: SERVER, seq: 101, ack: 501, payload: 'q' });
      flows.server({ ...egress, cookie: SERVER, seq: 501, ack: 102, payload: 'r' });
      const copy = flows.server({ ...ingress, ...SERVICE, cookie: CLIENT, seq: 501, ack: 102, payload: 'r' });
      assert.equal(copy.duplicateView, true);
      assert.deepEqual(flows.layer.log, ['> q', '< r']);
      assert.equal(flows.counters.connections.tcp, 1);
    });
  });

  it('mutes both sockets, also one that is learnt later, and still ends', () => {
    const flows = new FlowHarness();
    flows.client({ ...egress, cookie: CLIENT, seq: 100, flags: 'S' });
    flows.client({ ...egress, cookie: CLIENT, seq: 101, payload: 'a' });
    flows.client({ ...egress, cookie: CLIENT, seq: 109, payload: 'held' });
    flows.layer.control.wantTicks(true);
    flows.layer.control.mute();
    assert.deepEqual(flows.muted, [CLIENT]);
    assert.equal(flows.table.heldBytes, 0);
    flows.client({ ...egress, cookie: CLIENT, seq: 102, payload: 'more' });
    flows.server({ ...egress, cookie: SERVER, seq: 501, payload: 'r' });
    assert.deepEqual(flows.muted, [CLIENT, SERVER]);
    flows.table.tick(1_500_000);
    flows.client({ ...egress, cookie: CLIENT, seq: 999_999, flags: 'F' });
    flows.server({ ...egress, cookie: SERVER, seq: 888_888, flags: 'F' });
    assert.deepEqual(flows.layer.log, ['> a', '> end fin', '< end fin', 'close fin']);
  });

  it('can be muted from within data', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, payload: 'a' });
    flows.layer.onData = () => flows.layer.control.mute();
    flows.client({ seq: 103, payload: 'cd' });
    flows.client({ seq: 107, payload: 'gh' });
    flows.client({ seq: 102, payload: 'bcdefgh' });
    assert.deepEqual(flows.layer.log, ['> a', '> b']);
    assert.equal(flows.table.heldBytes, 0);
  });
});
