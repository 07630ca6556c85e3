// What visitors and agents said: the history, one conversation turn by turn, and the events behind it.
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useParam, useQueryFields } from '../address';
import type { Schemas } from '../api';
import { duration } from '../format';
import { agents, conversation, conversations, holds, receipt, session, transcript } from '../queries';
import { Badge, Empty, Failure, Field, Heading, Loading, More, SearchField, Table, Time } from '../ui';
import { Failed } from './missing';

type Conversation = Schemas['Conversation'];
const OUTCOMES = ['completed', 'transferred', 'abandoned', 'error'] as const;

function Outcome({ of }: { of: Conversation['outcome'] }) {
  if (of === null) return <Badge tone="plain">open</Badge>;
  return <Badge tone={of === 'completed' ? 'good' : of === 'error' ? 'bad' : 'warn'}>{of}</Badge>;
}

export function ConversationsPage() {
  const { data: me } = useQuery(session);
  const known = useQuery({ ...agents(), enabled: holds(me, 'agents:read') });
  const [{ q, agentId, outcome: named }, set] = useQueryFields('q', 'agentId', 'outcome');
  const outcome = OUTCOMES.find((it) => it === named) ?? '';
  const filter = { ...(q ? { q } : {}), ...(agentId ? { agentId } : {}), ...(outcome ? { outcome } : {}) };
  const list = useInfiniteQuery(conversations(filter));
  const rows = list.data?.pages.flatMap((it) => it.items) ?? [];
  const name = (id: string) => known.data?.find((it) => it.id === id)?.name ?? 'a deleted agent';
  return (
    <>
      <Heading title="Conversations" />
      <section className="card" aria-label="Conversations">
        <div className="toolbar" role="search">
          <SearchField value={q} placeholder="Words that were said" onSearch={(text) => { set({ q: text }, true); }} />
          {known.data && (
            <Field label="Agent">
              {(props) => (
                <select {...props} value={agentId} onChange={(event) => { set({ agentId: event.target.value }); }}>
                  <option value="">Any</option>
                  {known.data.map((it) => (
                    <option key={it.id} value={it.id}>
                      {it.name}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
          <Field label="Outcome">
            {(props) => (
              <select {...props} value={outcome} onChange={(event) => { set({ outcome: event.target.value }); }}>
                <option value="">Any</option>
                {OUTCOMES.map((it) => (
                  <option key={it}>{it}</option>
                ))}
              </select>
            )}
          </Field>
        </div>
        <Failure of={[list, known]} />
        {list.isPending && <Loading rows={6} />}
        {list.isSuccess && rows.length === 0 && (
          <Empty title={Object.keys(filter).length > 0 ? 'No conversation fits' : 'No conversation yet'}>
            {Object.keys(filter).length === 0 && <p>As soon as somebody talks to an agent, it is here.</p>}
          </Empty>
        )}
        {rows.length > 0 && (
          <Table label="Table of conversations" columns={['Summary', 'Agent', 'Began', 'Lasted', 'Outcome', 'Mood, estimated']}>
            {rows.map((it) => (
              <tr key={it.id}>
                <td className="name">
                  <Link to="/conversations/$conversationId" params={{ conversationId: it.id }}>
                    {it.summary || 'Nothing was said'}
                  </Link>
                  {it.environment === 'test' && (
                    <>
                      {' '}
                      <Badge tone="plain">test</Badge>
                    </>
                  )}
                </td>
                <td>{name(it.agentId)}</td>
                <td>
                  <Time at={it.startedAt} />
                </td>
                <td>{duration(it.durationS)}</td>
                <td>
                  <Outcome of={it.outcome} />
                </td>
                <td>{it.sentimentLabel ?? ''}</td>
              </tr>
            ))}
          </Table>
        )}
        <More of={list} what="Older conversations" />
      </section>
    </>
  );
}

export function ConversationPage() {
  const conversationId = useParam('conversationId');
  const found = useQuery(conversation(conversationId));
  const said = useQuery(transcript(conversationId));
  const happened = useQuery(receipt(conversationId));
  const it = found.data;
  if (!it && found.error) {
    return (
      <Failed what="conversation" error={found.error} again={() => void found.refetch()}>
        <Link to="/conversations">← Conversations</Link>
      </Failed>
    );
  }
  if (!it) return <Loading rows={6} />;
  return (
    <>
      <p>
        <Link to="/conversations">← Conversations</Link>
      </p>
      <Heading title={it.summary || 'A conversation'}>
        <Outcome of={it.outcome} />
      </Heading>
      <div className="grid">
        <section className="card" aria-label="Transcript">
          <h2>Transcript</h2>
          <Failure of={[said]} />
          {said.isPending && <Loading />}
          {said.data?.length === 0 && <Empty title="Nothing was said" />}
          <ol className="steps">
            {said.data?.map((turn, index) => (
              <li key={index} className={turn.role === 'user' ? 'user_utterance' : undefined}>
                <span className="quiet small">
                  {turn.role === 'user' ? 'Visitor' : 'Agent'}, {duration(Math.round(turn.tsMs / 1000))} in
                </span>
                <div>{turn.text}</div>
              </li>
            ))}
          </ol>
        </section>
        <div>
          <section className="card" aria-label="About this conversation">
            <h2>About</h2>
            <dl className="facts">
              <dt>Began</dt>
              <dd>
                <Time at={it.startedAt} />
              </dd>
              <dt>Lasted</dt>
              <dd>{duration(it.durationS)}</dd>
              <dt>Questions</dt>
              <dd>{it.unansweredCount > 0 ? `${it.userTurnCount}, ${it.unansweredCount} not answered` : it.userTurnCount}</dd>
              <dt>Topic</dt>
              <dd>{it.primaryTopic ?? <span className="quiet">unknown</span>}</dd>
              <dt>Mood</dt>
              <dd>
                {it.sentimentLabel ?? 'unknown'} <span className="quiet">(estimated from single words)</span>
              </dd>
              <dt>Language</dt>
              <dd>{it.language ?? <span className="quiet">unknown</span>}</dd>
              <dt>Id</dt>
              <dd>
                <code>{it.id}</code>
              </dd>
            </dl>
          </section>
          <section className="card" aria-label="Receipt">
            <h2>Receipt</h2>
            <p className="quiet">Everything that happened, in its order.</p>
            <Failure of={[happened]} />
            {happened.isPending && <Loading />}
            {happened.data?.map((event) => (
              <details key={event.sequence} className="small">
                <summary>
                  {event.sequence}. {event.eventType.replaceAll('_', ' ')}, <Time at={event.at} />
                </summary>
                <pre tabIndex={0}>{JSON.stringify(event.data, null, 2)}</pre>
              </details>
            ))}
          </section>
        </div>
      </div>
    </>
  );
}
