import { z } from 'zod';
import { parseLabelSelector } from './label-selector.ts';

const MAX_LIST_ENTRIES = 1000;

/** A list of names in which `*` stands for any characters. */
function patterns(description: string) {
  return z.array(z.string().min(1)).max(MAX_LIST_ENTRIES).default([]).describe(description);
}

/** `kubernetes` of the configuration. */
export const kubernetesShape = {
  enabled: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe(
      'Ask a cluster about pods. `auto`: where the agent runs in a pod that knows its node, or a kubeconfig is named; `on`: or it does not start.',
    ),
  kubeconfig: z
    .string()
    .min(1)
    .optional()
    .describe('How the API server is reached. Default: the ServiceAccount of the agent’s own pod.'),
  node_name: z
    .string()
    .min(1)
    .optional()
    .describe(
      'The node that this agent watches. Default: the environment variable NODE_NAME, set by the downward API from `spec.nodeName`.',
    ),
  cluster_name: z.string().min(1).optional().describe('Becomes k8s.cluster.name; the API does not know it.'),
  peers: z
    .boolean()
    .default(true)
    .describe(
      'Name the other end of a connection: watches the pods, Services, EndpointSlices and nodes of the whole cluster.',
    ),
  wait_ms: z
    .int()
    .min(0)
    .max(60_000)
    .default(2000)
    .describe('A span waits this long for the API server to report its container, then leaves with what is known.'),
  labels: patterns('Labels of pods that become resource attributes, k8s.pod.label.KEY.'),
  annotations: patterns('Annotations of pods that become resource attributes, k8s.pod.annotation.KEY.'),
  service_name_from_labels: z
    .boolean()
    .default(false)
    .describe('Take service.name from the labels app.kubernetes.io/instance, then /name, before the owner’s name.'),
  namespaces: patterns('Watch the pods of these namespaces only. Here and below `*` stands for any characters.'),
  exclude_namespaces: patterns('Do not watch the pods of these namespaces.'),
  label_selector: z
    .string()
    .refine((text) => parseLabelSelector(text) !== undefined, 'expected a label selector such as `app=shop,tier!=db`')
    .optional()
    .describe('Watch only pods whose labels match, such as `app=shop,tier!=db,env in (test, prod)`.'),
  workloads: patterns('Watch only pods of these owners: `cart`, `deployment/cart`, `statefulset/*`.'),
  containers: patterns('Watch only containers of these names.'),
  exclude_containers: patterns('Do not watch containers of these names.'),
  direction: z
    .enum(['both', 'in', 'out'])
    .default('both')
    .describe(
      'Of the watched pods: the requests that come in (SERVER spans), those that go out (CLIENT spans), or both.',
    ),
};
