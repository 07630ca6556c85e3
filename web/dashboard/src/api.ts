// The public API, through a client whose types are generated from the contract. The session cookie is the credential.
import createClient from 'openapi-fetch';
import { events } from '../../widget/src/widget';
import type { components, paths } from './contract';

export type Schemas = components['schemas'];
export type ApiKey = Schemas['ApiKey'];
export type Agent = Schemas['Agent'];
export type PublishableKey = Schemas['PublishableKey'];
export type Session = Schemas['Session'];
export type Problem = Schemas['Problem'];

/** A refusal, with what the server said of each field. */
export class Refusal extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title);
  }

  /** What is wrong with a field of the form, if it is that field. */
  field(name: string): string | undefined {
    return this.problem.errors?.find((it) => it.field === `/${name}` || it.field.startsWith(`/${name}/`))?.message;
  }
}

/** Asks in the name of one organization: when the session has moved to another, nothing is read or changed. */
function clientOf(organization: () => string) {
  const client = createClient<paths>({ baseUrl: `${window.location.origin}/api/v1` });
  client.use({
    onRequest({ request, schemaPath }) {
      // Signing in and switching are about the session itself.
      if (!schemaPath.startsWith('/auth/') && organization() !== '') request.headers.set('Flowyte-Organization', organization());
      return request;
    },
  });
  return client;
}

export type Client = ReturnType<typeof clientOf>;

/** For queries, whose answers are kept under the organization that was asked for. */
export const asking = (organization: string): Client => clientOf(() => organization);

let shown = '';
/** Says which organization's page is on the screen. */
export function showOrganization(id: string): void {
  shown = id;
}

/** For changes: they go to the organization that is on the screen. */
export const api = clientOf(() => shown);

const nothing = () => {};
let whenSignedOut = nothing;

/** Has `act` called when the session is over, wherever that is noticed, until what it answers is called. */
export function onSignedOut(act: () => void): () => void {
  whenSignedOut = act;
  return () => {
    whenSignedOut = nothing;
  };
}

/** Called when the session turns out to be in another organization than the page. */
let whenElsewhere: () => void = () => {};
export function onElsewhere(act: () => void): void {
  whenElsewhere = act;
}

/** Whether something was refused because the session is in another organization than the page. */
export const isElsewhere = (error: unknown): boolean => error instanceof Refusal && error.problem.code === 'conflict' && error.problem.organizationId !== undefined;

type Body = { success: boolean; data?: unknown; pagination?: Schemas['Pagination'] };
type Answer = { data?: Body; error?: unknown; response: Response };
/** What stands in `data`; nothing where an answer only says that it is done. */
type Of<A extends Answer> = NonNullable<A['data']> extends { data: infer T } ? T : null;

async function settle(asked: Promise<Answer>): Promise<Body> {
  const answer = await asked.catch(unreached);
  if (answer.response.ok && answer.data !== undefined) return answer.data;
  const problem = answer.error as Problem | undefined;
  const said = problem && typeof problem === 'object' && 'code' in problem ? problem : made('The server answered something unexpected.');
  if (answer.response.status === 401 && said.code !== 'login_failed' && said.code !== 'invalid_credential') whenSignedOut();
  if (answer.response.status === 401 && said.code === 'invalid_credential' && !answer.response.url.includes('/auth/')) whenSignedOut();
  const refusal = new Refusal(said);
  if (isElsewhere(refusal)) whenElsewhere();
  throw refusal;
}

function unreached(): never {
  throw new Refusal(made('The server can’t be reached. Check the connection and try again. If you were changing something, look first whether it was done.'));
}

function made(detail: string): Problem {
  return { type: 'about:blank', title: 'No answer', status: 500, code: 'dependency_unavailable', requestId: '', detail };
}

/** What a call answers, without its envelope. */
export async function ask<A extends Answer>(asked: Promise<A>): Promise<Of<A>> {
  return (await settle(asked)).data as Of<A>;
}

/** What a call tells in events, up to `done`. A refusal is thrown, and so is an answer that breaks off. */
export async function* told(asked: Promise<{ data?: unknown; error?: unknown; response: Response }>): AsyncGenerator<{ name: string; data: unknown }> {
  const answer = await asked.catch(unreached);
  if (!answer.response.ok) await settle(Promise.resolve({ ...answer, data: undefined }));
  try {
    for await (const event of events(answer.data as ReadableStream<Uint8Array<ArrayBuffer>>)) {
      if (event.name === 'error') throw new Refusal(event.data as Problem);
      if (event.name === 'done') return;
      yield event;
    }
  } catch (error) {
    if (error instanceof Refusal) throw error;
  }
  throw new Refusal(made('The connection was lost before the answer was complete. Try again.'));
}

/** One page of a list, and where the next begins. */
export interface Page<Items> {
  items: Items;
  next: string | null;
}

export async function page<A extends Answer>(asked: Promise<A>): Promise<Page<Of<A>>> {
  const answer = await settle(asked);
  return { items: answer.data as Of<A>, next: answer.pagination?.nextCursor ?? null };
}

/** Rows of a list that is read whole. */
const MOST = 10_000;

/** Every page of a list that stays short. */
export async function all<T>(more: (cursor: string | undefined) => Promise<{ items: T[]; next: string | null }>): Promise<T[]> {
  const rows: T[] = [];
  let cursor: string | undefined;
  while (rows.length < MOST) {
    const { items, next } = await more(cursor);
    rows.push(...items);
    if (next === null) break;
    cursor = next;
  }
  return rows;
}

/** The contract itself, which is no operation of it. */
export async function contractDocument(): Promise<unknown> {
  const response = await fetch('/api/v1/openapi.json').catch(unreached);
  if (!response.ok) throw new Refusal(made('The server answered something unexpected.'));
  return response.json();
}
