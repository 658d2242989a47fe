// What a block said and showed when it ran is shown where it need not run again, too: a page that was loaded since has
// not heard it, and the server repeats it for blocks that end a graph only.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { blockOf } from './graphs.js'

const NEWEST = 32 // runs that are looked through
const TRIES = 20, PAUSE = 100 // milliseconds; a run is in the history a moment after it ended

const heard = new Set() // blocks that have said something since the graph was loaded, or had nothing to say
let silent = [] // blocks of ours in the run at hand that do not run again, and were not heard

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other)

// Whether a block and all before it are the same in two graphs.
function sameWork(one, other, id, known = new Set()) {
  if (known.has(id)) return true
  known.add(id)
  const [a, b] = [one[id], other[id]]
  if (!a || !b || a.class_type !== b.class_type || !same(a.inputs, b.inputs)) return false
  return Object.values(a.inputs).filter(Array.isArray).every(([from]) => sameWork(one, other, from, known))
}

async function historyOf(which) {
  const answer = await api.fetchApi(`/history${which}`)
  return answer.ok ? answer.json() : {}
}

async function listed(id) {
  for (let number = 0; number < TRIES; number++) {
    const { [id]: run } = await historyOf(`/${id}`)
    if (run) return run
    await new Promise(done => setTimeout(done, PAUSE))
  }
}

async function repeat(id, blocks) {
  const now = await listed(id)
  const [, , graph] = now?.prompt ?? []
  let runs // megabytes, so they are asked for only where this run's own answer lacks something
  for (const node of blocks) {
    if (!graph?.[node] || heard.has(node)) continue
    heard.add(node)
    let output = now.outputs[node] // of older servers, and of blocks that end a graph
    if (!output) {
      runs ??= Object.values(await historyOf(`?max_items=${NEWEST}`))
      output = runs.findLast(run => run.outputs?.[node] && sameWork(graph, run.prompt[2], node))?.outputs[node]
    }
    if (output) api.dispatchCustomEvent('executed', { node, display_node: node, prompt_id: id, output })
  }
}

app.registerExtension({
  name: 'PyramidVideo.Cached',
  setup() {
    api.addEventListener('executed', ({ detail }) => heard.add(String(detail.node)))
    api.addEventListener('execution_cached', ({ detail }) => {
      const isOurs = node => blockOf(node)?.comfyClass?.startsWith('PyramidVideo')
      silent = detail.nodes.map(String).filter(node => !heard.has(node) && isOurs(node))
    })
    api.addEventListener('execution_success', ({ detail }) => {
      if (silent.length) repeat(detail.prompt_id, silent)
      silent = []
    })
  },
  afterConfigureGraph: () => heard.clear()
})
