// What became of the conversations: figures, days, agents, and the questions that nobody could answer.
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api, ask, type Schemas } from '../api';
import { count, lastDays, percent, usd } from '../format';
import { agents, analyticsByAgent, analyticsOverview, analyticsTimeseries, gaps, holds, own, queries, session, type Environment } from '../queries';
import { Badge, Empty, Failure, Field, Heading, Loading, Table, Time } from '../ui';

export function AnalyticsPage() {
  const [environment, setEnvironment] = useState<Environment>('live');
  const overview = useQuery(analyticsOverview(environment));
  const it = overview.data;
  return (
    <>
      <Heading title="Analytics">
        <select aria-label="Environment" value={environment} onChange={(event) => setEnvironment(event.target.value as Environment)}>
          <option value="live">Live</option>
          <option value="test">Test</option>
        </select>
      </Heading>
      <Failure of={[overview]} />
      {!it && !overview.error && (
        <section className="card" aria-label="In 30 days">
          <Loading rows={2} />
        </section>
      )}
      {it && (
        <section className="card" aria-label="In 30 days">
          <h2>In 30 days</h2>
          {it.answerStats.totalCalls === 0 ? (
            <Empty title="No conversation yet">{environment === 'live' && <p>Tests are counted separately.</p>}</Empty>
          ) : (
            <div className="figures">
              <Figure name="Conversations" value={it.answerStats.totalCalls.toLocaleString()} />
              <Figure name="Questions" value={it.answerStats.questions.toLocaleString()} />
              <Figure name="Not answered" value={it.answerStats.unansweredQuestions.toLocaleString()} />
              <Figure name="Handled alone" value={percent(it.answerStats.containmentRate)} />
              <Figure name="Unhappy visitors, estimated" value={(it.sentimentTriage.negative + it.sentimentTriage.frustrated).toLocaleString()} />
              <Figure name="Spent" value={usd(it.costBreakdown.totalUsd)} />
            </div>
          )}
          {it.topTopics.length > 0 && <p className="quiet">Most about {it.topTopics.map((one) => `${one.topic} (${one.count})`).join(', ')}.</p>}
        </section>
      )}
      <Days environment={environment} />
      <ByAgent environment={environment} />
      <Gaps environment={environment} />
    </>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <div className="quiet small">{name}</div>
      <div className="figure">{value}</div>
    </div>
  );
}

function Days({ environment }: { environment: Environment }) {
  const found = useQuery(analyticsTimeseries(environment));
  const rows = found.data?.days ?? [];
  const bars = lastDays(31).map((date) => ({ date, calls: rows.find((it) => it.date === date)?.calls ?? 0 }));
  const total = bars.reduce((sum, it) => sum + it.calls, 0);
  const most = Math.max(1, ...bars.map((it) => it.calls));
  if (found.isSuccess && total === 0) return null;
  return (
    <section className="card" aria-label="By day">
      <h2>By day</h2>
      <Failure of={[found]} />
      {found.isPending && <Loading />}
      {total > 0 && (
        <>
          <svg className="chart" viewBox={`0 0 ${bars.length * 10} 100`} preserveAspectRatio="none" role="img" aria-label={`${count(total, 'conversation')}; the table below has the numbers`}>
            {bars.map((bar, index) => (
              <g key={bar.date}>
                <title>{`${bar.date}: ${bar.calls}`}</title>
                <rect className="allowed" x={index * 10 + 1.5} width={7} y={100 - (bar.calls / most) * 96} height={(bar.calls / most) * 96} />
              </g>
            ))}
          </svg>
          <Table label="Conversations by day" columns={['Day', 'Conversations', 'Questions', 'Not answered', 'Spent']}>
            {rows
              .filter((it) => it.calls > 0)
              .map((it) => (
                <tr key={it.date}>
                  <td>{it.date}</td>
                  <td>{it.calls}</td>
                  <td>{it.questions}</td>
                  <td>{it.unansweredQuestions}</td>
                  <td>{usd(it.spendUsd)}</td>
                </tr>
              ))}
          </Table>
        </>
      )}
    </section>
  );
}

function ByAgent({ environment }: { environment: Environment }) {
  const found = useQuery(analyticsByAgent(environment));
  if (found.isSuccess && found.data.length === 0) return null;
  return (
    <section className="card" aria-label="By agent">
      <h2>By agent</h2>
      <Failure of={[found]} />
      {found.isPending && <Loading />}
      {found.data && (
        <Table label="Figures by agent" columns={['Agent', 'Conversations', 'Questions', 'Not answered', 'Handled alone', 'Transferred']}>
          {found.data.map((it) => (
            <tr key={it.agentId}>
              <td className="name">
                <Link to="/agents/$agentId" params={{ agentId: it.agentId }}>
                  {it.name}
                </Link>
              </td>
              <td>{it.answerStats.totalCalls}</td>
              <td>{it.answerStats.questions}</td>
              <td>{it.answerStats.unansweredQuestions}</td>
              <td>{percent(it.answerStats.containmentRate)}</td>
              <td>{percent(it.answerStats.transferRate)}</td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}

type Status = Schemas['KnowledgeGapStatus'];
const STATUSES: [Status, string][] = [
  ['open', 'open'],
  ['in_progress', 'in progress'],
  ['covered', 'covered'],
  ['dismissed', 'dismissed'],
];

function Gaps({ environment }: { environment: Environment }) {
  const { data: me } = useQuery(session);
  const known = useQuery({ ...agents(), enabled: holds(me, 'agents:read') });
  const [chosen, setChosen] = useState('');
  const agentId = chosen || known.data?.[0]?.id;
  const found = useQuery({ ...gaps(agentId ?? '', environment), enabled: agentId !== undefined });
  const mark = useMutation({
    mutationFn: ({ gapId, status }: { gapId: string; status: Status }) =>
      ask(api.PATCH('/agents/{agentId}/knowledge-gaps/{gapId}', { params: { path: { agentId: agentId ?? '', gapId } }, body: { status } })),
    onSuccess: () => void queries.invalidateQueries({ queryKey: own('gaps') }),
  });
  if (!known.data) return <Failure of={[known]} />;
  if (known.data.length === 0) return null;
  const may = holds(me, 'analytics:write');
  return (
    <section className="card" aria-label="Knowledge gaps">
      <h2>Questions it could not answer</h2>
      <div className="toolbar">
        <Field label="Agent">
          {(props) => (
            <select {...props} value={agentId} onChange={(event) => setChosen(event.target.value)}>
              {known.data.map((it) => (
                <option key={it.id} value={it.id}>
                  {it.name}
                </option>
              ))}
            </select>
          )}
        </Field>
      </div>
      <Failure of={[found, mark]} />
      {found.isPending && <Loading />}
      {found.data?.gaps.length === 0 && <Empty title={found.data.dataState === 'collecting' ? 'Nobody has asked it anything yet' : 'There are no unanswered questions'} />}
      {found.data && found.data.gaps.length > 0 && (
        <Table label="Questions that were not answered" columns={['Question', 'Asked', 'Last', 'Why', 'Status']}>
          {found.data.gaps.map((it) => (
            <tr key={it.gapId}>
              <td className="name">{it.queryText}</td>
              <td>
                {it.count} × in {count(it.distinctCalls, 'conversation')}
              </td>
              <td>
                <Time at={it.lastSeen} />
              </td>
              <td>
                <Badge tone="plain">{it.classification === 'TRUE_GAP' ? 'not known' : 'not found'}</Badge>
              </td>
              <td>
                {may ? (
                  <select aria-label={`Status of ${it.queryText}`} value={it.status} disabled={mark.isPending} onChange={(event) => mark.mutate({ gapId: it.gapId, status: event.target.value as Status })}>
                    {STATUSES.map(([value, text]) => (
                      <option key={value} value={value}>
                        {text}
                      </option>
                    ))}
                  </select>
                ) : (
                  it.status.replace('_', ' ')
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}
