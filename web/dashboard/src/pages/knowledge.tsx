// What an agent knows: its sources, how far they have been read, and what it would find for a question.
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Refusal, api, ask, type Agent, type Schemas } from '../api';
import { count } from '../format';
import { knowledgeSources, own, queries } from '../queries';
import { Actions, Badge, Confirm, Dialog, Empty, Failure, Field, Form, Loading, Notice, Table, Text, Time, Trouble } from '../ui';

type Source = Schemas['KnowledgeSource'];

function State({ of }: { of: Source }) {
  const tone = of.status === 'indexed' ? 'good' : of.status === 'failed' ? 'bad' : 'plain';
  return (
    <>
      <Badge tone={tone}>{of.status}</Badge>
      {of.status === 'indexing' && of.progress.total > 0 && <progress value={of.progress.current} max={of.progress.total} aria-label={`Reading ${of.label}`} />}
      {of.errorMessage && <div className="quiet small">{of.errorMessage}</div>}
    </>
  );
}

export function Knowledge({ agent, may }: { agent: Agent; may: boolean }) {
  const list = useQuery({
    ...knowledgeSources(agent.id),
    // While something is being read, its progress is worth seeing.
    refetchInterval: (query) => (query.state.data?.some((it) => it.status === 'pending' || it.status === 'indexing') ? 1000 : false),
  });
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState<Source>();
  const renew = () => void queries.invalidateQueries({ queryKey: own('agents', agent.id, 'knowledge') });
  const refresh = useMutation({
    mutationFn: ({ id, on }: { id: string; on: boolean }) =>
      ask(api.PATCH('/agents/{agentId}/knowledge/sources/{id}', { params: { path: { agentId: agent.id, id } }, body: { refreshEnabled: on } })),
    onSuccess: renew,
  });
  return (
    <section className="card" aria-label="Knowledge">
      <div className="heading">
        <h2>Knowledge</h2>
        {may && (
          <button type="button" onClick={() => setAdding(true)}>
            Add a source
          </button>
        )}
      </div>
      <p className="quiet">What it answers from. It names the source, and says when it does not know.</p>
      <Failure of={[list, refresh]} />
      {list.isPending && <Loading />}
      {list.data?.length === 0 && (
        <Empty title="It knows nothing yet">
          <p>Give it a text or questions with answers, and it answers from them at once.</p>
        </Empty>
      )}
      {list.data && list.data.length > 0 && (
        <>
          <Table label="Table of sources" columns={['Source', 'Kind', 'Status', 'Passages', 'Read']} actions={may}>
            {list.data.map((it) => (
              <tr key={it.id}>
                <td className="name">
                  {it.label}
                  {it.sourceUrl && <div className="quiet small">{it.sourceUrl}</div>}
                </td>
                <td>{it.kind}</td>
                <td>
                  <State of={it} />
                </td>
                <td>{it.chunkCount}</td>
                <td>
                  <Time at={it.indexedAt} />
                  {it.kind === 'url' && (
                    <div className="check small">
                      <input type="checkbox" id={`again-${it.id}`} checked={it.refreshEnabled} disabled={!may || refresh.isPending} onChange={(event) => refresh.mutate({ id: it.id, on: event.target.checked })} />
                      <label htmlFor={`again-${it.id}`}>Again every {count(Math.round(it.refreshIntervalS / 86_400), 'day')}</label>
                    </div>
                  )}
                </td>
                {may && (
                  <td>
                    <div className="actions">
                      <button type="button" onClick={() => setRemoving(it)}>
                        Remove
                      </button>
                    </div>
                  </td>
                )}
              </tr>
            ))}
          </Table>
          <Finder agent={agent} />
        </>
      )}
      {adding && (
        <AddSource
          agent={agent}
          onClose={() => setAdding(false)}
          onAdded={() => {
            setAdding(false);
            renew();
          }}
        />
      )}
      {removing && (
        <Confirm
          title={`Remove ${removing.label}`}
          action="Remove"
          act={() => ask(api.DELETE('/agents/{agentId}/knowledge/sources/{id}', { params: { path: { agentId: agent.id, id: removing.id } } }))}
          onDone={renew}
          onClose={() => setRemoving(undefined)}
        >
          <p>The agent no longer answers from it.</p>
        </Confirm>
      )}
    </section>
  );
}

const KINDS = [
  ['text', 'Text'],
  ['faq', 'Questions and answers'],
  ['file', 'File'],
  ['url', 'Web page'],
] as const;
const HINTS = {
  text: 'Paragraphs between empty lines; a line that begins with # is a heading.',
  faq: 'Lines that begin with Q: and A:, or each question on a line of its own with its answer below.',
};
const FILES = '.pdf,.docx,.txt,.md,.csv,.html,.htm';

function AddSource({ agent, onClose, onAdded }: { agent: Agent; onClose: () => void; onAdded: () => void }) {
  const [kind, setKind] = useState<(typeof KINDS)[number][0]>('text');
  const [label, setLabel] = useState('');
  const [text, setText] = useState('');
  const [url, setUrl] = useState('');
  const [file, setFile] = useState<File>();
  const upload = async (chosen: File): Promise<string> => {
    const form = new FormData();
    form.append('file', chosen);
    const kept = await ask(api.POST('/uploads', { body: { file: '' }, bodySerializer: () => form }));
    return kept.fileId;
  };
  const add = useMutation({
    mutationFn: async () => {
      const of = kind === 'file' ? { file_id: file ? await upload(file) : '' } : kind === 'url' ? { url } : { text };
      return ask(api.POST('/agents/{agentId}/knowledge/sources', { params: { path: { agentId: agent.id } }, body: { kind, label, ...of } }));
    },
    onSuccess: onAdded,
  });
  const refusal = add.error instanceof Refusal ? add.error : undefined;
  return (
    <Dialog title="Add a source" onClose={onClose} wide>
      <Form busy={add.isPending} onSubmit={() => add.mutate()}>
        <Field label="Kind">
          {(props) => (
            <select {...props} value={kind} onChange={(event) => setKind(event.target.value as typeof kind)}>
              {KINDS.map(([value, name]) => (
                <option key={value} value={value}>
                  {name}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Text label="Label" value={label} onChange={setLabel} required maxLength={200} placeholder="Opening hours" hint="Visitors read it where an answer names its source." error={refusal?.field('label')} />
        {(kind === 'text' || kind === 'faq') && (
          <Field label="Text" hint={HINTS[kind]} error={refusal?.field('text')}>
            {(props) => <textarea {...props} rows={10} required value={text} onChange={(event) => setText(event.target.value)} />}
          </Field>
        )}
        {kind === 'file' && (
          <Field label="File" hint="PDF, DOCX, text, Markdown, CSV or HTML, at most 25 MB." error={refusal?.field('file') ?? refusal?.field('file_id')}>
            {(props) => <input {...props} type="file" required accept={FILES} onChange={(event) => setFile(event.target.files?.[0])} />}
          </Field>
        )}
        {kind === 'url' && (
          <Text label="Address" value={url} onChange={setUrl} type="url" required maxLength={2048} placeholder="https://www.example.com/faq" hint="A public page; the server fetches it." error={refusal?.field('url')} />
        )}
        <Trouble error={add.error} />
        <Actions action={add.isPending && kind === 'file' ? 'Uploading…' : 'Add'} busy={add.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}

/** What the agent would find, and how sure it would be. */
function Finder({ agent }: { agent: Agent }) {
  const [query, setQuery] = useState('');
  const find = useMutation({
    mutationFn: () => ask(api.POST('/agents/{agentId}/knowledge/preview', { params: { path: { agentId: agent.id } }, body: { query } })),
  });
  return (
    <>
      <Form busy={find.isPending} onSubmit={() => find.mutate()}>
        <div className="toolbar">
          <Text label="What would it find?" value={query} onChange={setQuery} required maxLength={1000} placeholder="When do you open?" />
          <button type="submit" className="beside" disabled={find.isPending}>
            {find.isPending ? 'Looking…' : 'Look'}
          </button>
        </div>
      </Form>
      <Trouble error={find.error} />
      {find.data?.chunks.length === 0 && <Notice tone="plain">Nothing. It would say that it does not know.</Notice>}
      {find.data && find.data.chunks.length > 0 && (
        <Table label="Passages" columns={['Passage', 'Source', 'Similarity']}>
          {find.data.chunks.map((it) => (
            <tr key={it.id}>
              <td className="long">
                {it.question && <strong>{it.question} </strong>}
                {it.answer}
              </td>
              <td>{it.label}</td>
              <td>{Math.round(it.similarity * 100)} %</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
