import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PodFilter } from '../../src/workload/kubernetes/filter.ts';
import { Identities } from '../../src/workload/kubernetes/identity.ts';
import { NodePods } from '../../src/workload/kubernetes/node-pods.ts';
import { Peers } from '../../src/workload/kubernetes/peers.ts';
import { NodePod, Pod } from '../../src/workload/kubernetes/pod.ts';
import { idOf, podObject } from '../support/kubernetes/fixtures.ts';

/*
 * A small cluster: pods of a few names, on this node and elsewhere, take turns at a few addresses; their containers start again; they end in
 * every way. Two watches tell of it, late, one of this node's pods and one of the others, and each may break off and list anew. Beside it
 * stands what was true. Whatever is asked after each step, the answer is what was true, or nothing: never another pod.
 *
 * Two things are presumed. While a pod's end has not been told, it may be taken to live. And of a pod that is taken away without any time of its
 * end in it, a watch that is connected tells before the address is another's.
 */

interface RealPod {
  readonly name: string;
  readonly uid: string;
  readonly near: boolean;
  readonly address: string;
  /** As the kubelet notes it, in whole seconds. */
  readonly startMs: number;
  /** The address is its own from then to `toMs`. */
  readonly fromMs: number;
  readonly containers: Record<string, string>;
  /** Ids before the last restart, by the name of the container. */
  readonly before: Record<string, string>;
  restarts: number;
  toMs: number;
  deletionMs: number | undefined;
  finishedMs: number | undefined;
  endTold: boolean;
  /** When its removal was told. */
  removedMs: number | undefined;
  /** Id to name, by what was told last. */
  told: Readonly<Record<string, string>>;
}

interface Event {
  readonly type: 'set' | 'removed';
  readonly atMs: number;
  readonly pod: RealPod;
  readonly object: ReturnType<typeof podObject>;
  readonly containers: Readonly<Record<string, string>>;
  readonly tellsEnd: boolean;
}

interface Watch {
  readonly queue: Event[];
  /** What it has been told to be there, by name. */
  readonly known: Map<string, Event>;
  connected: boolean;
  contactMs: number;
}

const NAMES = ['near-0', 'near-1', 'far-0', 'far-1'] as const;
const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3'] as const;
const CONTAINERS = ['agent', 'main'] as const;
const LAGS_MS = [0, 1, 300, 1500, 12_000, 45_000];
/** A watch that is connected tells within this time. */
const LATEST_MS = 20_000;
const RETAIN_MS = 60_000;
const DEPARTED = 6;

const name = fc.constantFrom(...NAMES);
const near = fc.boolean();
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('start' as const), name, address: fc.nat(2), pair: near }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('restart' as const), name, which: fc.nat(1) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('crash' as const), name, times: fc.integer({ max: 150, min: 1 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('change' as const), name }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      name,
      how: fc.constantFrom('deleted', 'completed', 'forced'),
      afterMs: fc.nat(3000),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 20_000 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('tell' as const), near, count: fc.integer({ min: 1, max: 6 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), near }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('list' as const), near }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const floored = (ms: number) => Math.floor(ms / 1000) * 1000;
const iso = (ms: number) => `${new Date(ms).toISOString().slice(0, 19)}Z`;

const untold: RealPod['told'] = {};

class World {
  nowMs = Date.parse('2026-01-01T00:00:00Z');
  readonly seen = { changes: 0, right: 0, unknown: 0 };
  readonly #pods: RealPod[] = [];
  /** What the API server has, by name. */
  readonly #api = new Map<string, RealPod>();
  readonly #owners = new Map<string, RealPod>();
  /** Pods of this node, in the order in which their removal was told. */
  readonly #departed: RealPod[] = [];
  readonly #watches: Record<'near' | 'far', Watch>;
  readonly #nodePods: NodePods;
  readonly #peers: Peers;
  #ids = 0;

  constructor() {
    const watch = (): Watch => ({ queue: [], known: new Map(), connected: true, contactMs: this.nowMs });
    this.#watches = { near: watch(), far: watch() };
    const limits = { kubernetesDeparted: DEPARTED, kubernetesDepartedUs: RETAIN_MS * 1000 };
    const common = { chainOf: () => ({ owners: [], certain: true }), limits, now: () => this.nowMs };
    const none = { namespaces: [], excludeNamespaces: [], workloads: [], containers: [], excludeContainers: [] };
    this.#nodePods = new NodePods({
      ...common,
      filter: new PodFilter({ ...none, direction: 'both' }),
      identities: new Identities({
        ...{ nodeName: 'node-1', clusterName: undefined, labels: [], annotations: [], serviceNameFromLabels: false },
      }),
    });
    // An address that is forgotten within seconds would be the next one's from the second in which that was noted.
    this.#peers = new Peers({ ...common, limits: { ...limits, kubernetesDeparted: 10_000 } });
  }

  take(each: Step): void {
    if (each.do === 'pass') this.#pass(each.ms);
    else if (each.do === 'tell') this.#tell(each.near, each.count);
    else if (each.do === 'lose') this.#lose(each.near);
    else if (each.do === 'list') this.#list(each.near);
    else if (each.do === 'start') this.#start(each.name, ADDRESSES[each.address]!, each.pair);
    else {
      const pod = this.#api.get(each.name);
      if (pod === undefined) return;
      if (each.do === 'end') this.#end(pod, each.how, each.afterMs);
      else if (each.do === 'change') this.#publish('set', pod);
      else if (pod.toMs !== Number.POSITIVE_INFINITY) return;
      else if (each.do === 'restart') this.#restart(pod, CONTAINERS[each.which]!);
      else for (let i = 0; i < each.times; i++) this.#restart(pod, 'main');
    }
  }

  #pass(ms: number): void {
    this.nowMs += ms;
    for (const { queue } of Object.values(this.#watches))
      while (queue[0] !== undefined && queue[0].atMs < this.nowMs - LATEST_MS) this.#tell(queue[0].pod.near, 1);
    this.#nodePods.tick();
    this.#peers.tick();
  }

  #start(podName: string, address: string, pair: boolean): void {
    const former = this.#api.get(podName);
    if (former !== undefined) this.#end(former, 'forced', 0);
    const holder = this.#pods.findLast((pod) => pod.address === address);
    if (holder?.toMs === Number.POSITIVE_INFINITY) return;
    if (holder !== undefined) this.#tell(holder.near, Number.POSITIVE_INFINITY);
    // Of one that is never heard of, or long forgotten when it is, nothing is known but that the next one started later, in whole seconds.
    const isWatched = this.#watches[podName.startsWith('near') ? 'near' : 'far'].connected;
    if (holder !== undefined && (holder.told === untold || !isWatched)) this.#pass(1000 - (this.nowMs % 1000));
    const startMs = floored(this.nowMs);
    this.#pass(300);
    const main = idOf(++this.#ids);
    const containers: Record<string, string> = pair ? { agent: idOf(++this.#ids), main } : { main };
    const pod: RealPod = {
      ...{ name: podName, uid: `uid-${this.#pods.length}`, near: podName.startsWith('near'), address },
      ...{ startMs, fromMs: this.nowMs },
      ...{ containers, before: {}, restarts: 0, toMs: Number.POSITIVE_INFINITY, deletionMs: undefined },
      ...{ finishedMs: undefined, endTold: false, removedMs: undefined, told: untold },
    };
    for (const id of Object.values(containers)) this.#owners.set(id, pod);
    this.#pods.push(pod);
    this.#api.set(podName, pod);
    this.#publish('set', pod);
  }

  #restart(pod: RealPod, container: string): void {
    if (pod.containers[container] === undefined) return;
    pod.before[container] = pod.containers[container];
    pod.containers[container] = idOf(++this.#ids);
    pod.restarts++;
    this.#owners.set(pod.containers[container], pod);
    this.#publish('set', pod);
  }

  #end(pod: RealPod, how: string, afterMs: number): void {
    if (how !== 'forced' && pod.toMs === Number.POSITIVE_INFINITY) {
      if (how === 'deleted') {
        pod.deletionMs = floored(this.nowMs);
        this.#publish('set', pod);
      }
      this.#pass(afterMs);
      pod.toMs = this.nowMs;
      pod.finishedMs = floored(this.nowMs);
      this.#publish('set', pod);
      // A Job's pod that is done stays for whoever looks at it.
      if (how === 'completed') return;
    }
    pod.toMs = Math.min(pod.toMs, this.nowMs);
    this.#api.delete(pod.name);
    this.#publish('removed', pod);
  }

  #publish(type: Event['type'], pod: RealPod): void {
    this.seen.changes++;
    const event = {
      type,
      pod,
      ...this.#objectOf(pod),
      atMs: this.nowMs,
      tellsEnd: type === 'removed' || pod.finishedMs !== undefined,
    };
    const watch = this.#watches[pod.near ? 'near' : 'far'];
    if (watch.connected) watch.queue.push(event);
  }

  #objectOf(pod: RealPod): Pick<Event, 'object' | 'containers'> {
    const { finishedMs, deletionMs } = pod;
    const named = Object.entries(pod.containers);
    const statuses = named.map(([container, id]) => ({
      ...{ name: container, image: 'example/shop:1', containerID: `containerd://${id}`, restartCount: pod.restarts },
      state: finishedMs === undefined ? { running: {} } : { terminated: { finishedAt: iso(finishedMs) } },
      lastState: { terminated: { containerID: `containerd://${pod.before[container] ?? ''}` } },
    }));
    const object = podObject({
      ...{ name: pod.name, uid: pod.uid, ips: [pod.address], containers: pod.containers, start: iso(pod.startMs) },
      ...{ phase: finishedMs === undefined ? 'Running' : 'Succeeded', status: { containerStatuses: statuses } },
      annotations: { 'resource.opentelemetry.io/service.name': pod.uid },
      metadata: deletionMs === undefined ? {} : { deletionTimestamp: iso(deletionMs), deletionGracePeriodSeconds: 0 },
    });
    return { object, containers: Object.fromEntries(named.map(([container, id]) => [id, container])) };
  }

  #tell(ofNear: boolean, count: number): void {
    const watch = this.#watches[ofNear ? 'near' : 'far'];
    for (const event of watch.queue.splice(0, count)) {
      watch.contactMs = this.nowMs;
      if (event.type === 'set') this.#handleSet(watch, event, this.nowMs);
      else this.#handleRemoved(watch, event, this.nowMs);
    }
  }

  /** What it has heard of still, it tells. */
  #lose(ofNear: boolean): void {
    this.#tell(ofNear, Number.POSITIVE_INFINITY);
    this.#watches[ofNear ? 'near' : 'far'].connected = false;
  }

  /** As the informer does: first who is there no more, by name; then all who are. */
  #list(ofNear: boolean): void {
    const watch = this.#watches[ofNear ? 'near' : 'far'];
    if (watch.connected) return;
    for (const [podName, event] of [...watch.known])
      if (!this.#api.has(podName)) this.#handleRemoved(watch, event, watch.contactMs);
    for (const pod of this.#api.values()) {
      if (pod.near !== ofNear) continue;
      const event = { type: 'set' as const, pod, ...this.#objectOf(pod), atMs: this.nowMs };
      this.#handleSet(watch, { ...event, tellsEnd: pod.finishedMs !== undefined }, watch.contactMs);
    }
    watch.connected = true;
    watch.contactMs = this.nowMs;
  }

  #handleSet(watch: Watch, event: Event, goneMs: number): void {
    const { pod, object } = event;
    const former = watch.known.get(pod.name)?.pod;
    if (former !== undefined && former !== pod) this.#departs(former);
    watch.known.set(pod.name, event);
    pod.told = event.containers;
    pod.endTold ||= event.tellsEnd;
    const options = { nameFromLabels: false };
    const record = pod.near ? new NodePod(object, options) : new Pod(object, options);
    if (record instanceof NodePod) this.#nodePods.set(record);
    this.#peers.setPod(record, goneMs);
  }

  #handleRemoved(watch: Watch, event: Event, goneMs: number): void {
    const { pod, object } = event;
    watch.known.delete(pod.name);
    this.#departs(pod);
    const options = { nameFromLabels: false };
    const record = pod.near ? new NodePod(object, options) : new Pod(object, options);
    if (record instanceof NodePod) this.#nodePods.remove(record);
    this.#peers.removePod(record, goneMs);
  }

  #departs(pod: RealPod): void {
    pod.endTold = true;
    pod.removedMs = this.nowMs;
    if (pod.near) this.#departed.push(pod);
  }

  check(): void {
    this.#checkAddresses();
    this.#checkContainers();
  }

  #checkAddresses(): void {
    for (const address of ADDRESSES) {
      const turns = this.#pods.filter((pod) => pod.address === address);
      const ends = turns.slice(-3).flatMap(({ startMs, toMs }) => [startMs, toMs - 1, toMs]);
      for (const atMs of [...LAGS_MS.map((lag) => this.nowMs - lag), ...ends.filter((ms) => ms <= this.nowMs)]) {
        const found = this.#peers.find(address, 0, atMs)?.name;
        const holder = turns.find((pod) => pod.fromMs <= atMs && atMs < pod.toMs);
        if (found !== undefined) {
          // While it was nobody's: who had it last, or is about to.
          const last = turns.filter((pod) => pod.fromMs <= atMs).slice(-1);
          const next = turns.filter((pod) => pod.startMs <= atMs && atMs < pod.fromMs);
          const may = holder === undefined ? [...last, ...next] : [holder];
          const living = turns.filter((pod) => pod.startMs <= atMs && !pod.endTold);
          const allowed = [...may, ...living].map(({ uid }) => uid);
          assert.ok(allowed.includes(found), `${address} is ${found}, not ${allowed}`);
        }
        if (holder === undefined) continue;
        const isTold = atMs === this.nowMs && holder.told !== untold && !holder.endTold;
        const isOver = (pod: RealPod) => pod.endTold && pod.toMs + 1000 <= atMs;
        if (isTold && turns.every((pod) => pod === holder || isOver(pod))) assert.equal(found, holder.uid);
        if (found === undefined) this.seen.unknown++;
        else if (found === holder.uid) this.seen.right++;
      }
    }
  }

  #checkContainers(): void {
    const kept = new Set(
      this.#departed.slice(-DEPARTED + 1).filter(({ removedMs }) => removedMs! > this.nowMs - RETAIN_MS),
    );
    const pods = this.#pods.filter((pod) => pod.near).slice(-12);
    for (const pod of pods) {
      for (const [container, id] of [...Object.entries(pod.containers), ...Object.entries(pod.before)]) {
        for (const uid of ['', pod.uid]) {
          const found = this.#nodePods.find({ uid, containerId: id });
          const isTold = pod.told[id] !== undefined;
          if (found === undefined) {
            const isKept = pod.removedMs === undefined || kept.has(pod);
            assert.ok(!(isTold && isKept), `${id} of ${pod.uid} is not known`);
            continue;
          }
          assert.equal(found.measured['k8s.pod.uid'], pod.uid);
          assert.equal(found.measured['k8s.pod.name'], pod.name);
          const named = found.measured['k8s.container.name'];
          if (named === undefined) assert.ok(!isTold && !found.certain, `${id} of ${pod.uid} has no name`);
          else assert.deepEqual([named, found.measured['container.id']], [container, id]);
        }
      }
    }
  }
}

function play(steps: readonly Step[]): World['seen'] {
  const world = new World();
  for (const each of steps) {
    world.take(each);
    world.check();
  }
  return world.seen;
}

test('whatever happens to pods, an address and a container are their own pod’s or nobody’s', () => {
  const sum = { changes: 0, right: 0, unknown: 0 };
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120, size: 'max' }), (steps) => {
      const seen = play(steps);
      for (const key of ['changes', 'right', 'unknown'] as const) sum[key] += seen[key];
    }),
    { numRuns: 300 },
  );
  assert.ok(sum.changes > 5000 && sum.right > sum.changes, JSON.stringify(sum));
});
