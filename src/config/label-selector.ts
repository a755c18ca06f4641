/** One requirement of a Kubernetes label selector; all must hold. */
interface Requirement {
  readonly key: string;
  /** `undefined`: the label need only be there, or with `negated` not be there. */
  readonly values: readonly string[] | undefined;
  readonly negated: boolean;
}

/** A label selector as the API and kubectl take it: `app=shop,tier!=db,env in (test, prod),!legacy`. */
export type LabelSelector = readonly Requirement[];

/** Labels and annotations: an optional prefix, a name of at most 63 characters. */
const key = '[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?';
const value = '(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?';
const exists = new RegExp(`^(!?)\\s*(${key})$`);
const equals = new RegExp(`^(${key})\\s*(==?|!=)\\s*(${value})$`);
const within = new RegExp(`^(${key})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);
const oneValue = new RegExp(`^${value}$`);

/** @returns `undefined` when the text is no label selector; the empty one matches everything */
export function parseLabelSelector(text: string): LabelSelector | undefined {
  const requirements: Requirement[] = [];
  // Commas within parentheses separate values.
  for (const part of text.split(/,(?![^(]*\))/).map((each) => each.trim())) {
    if (part === '' && text.trim() === '') return [];
    const requirement = parseRequirement(part);
    if (requirement === undefined) return undefined;
    requirements.push(requirement);
  }
  return requirements;
}

function parseRequirement(text: string): Requirement | undefined {
  const present = exists.exec(text);
  if (present !== null) return { key: present[2]!, values: undefined, negated: present[1] === '!' };
  const equal = equals.exec(text);
  if (equal !== null) return { key: equal[1]!, values: [equal[3]!], negated: equal[2] === '!=' };
  const among = within.exec(text);
  if (among === null) return undefined;
  const values = among[3]!.split(',').map((each) => each.trim());
  if (!values.every((each) => oneValue.test(each))) return undefined;
  return { key: among[1]!, values, negated: among[2] === 'notin' };
}

/** As the API server decides: `!=` and `notin` hold where the label is missing, too. */
export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  return selector.every(({ key: name, values, negated }) => {
    const label = Object.hasOwn(labels, name) ? labels[name] : undefined;
    const holds = label !== undefined && (values === undefined || values.includes(label));
    return holds !== negated;
  });
}
