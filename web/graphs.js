// Where blocks are found: in the graph of the page, and in the subgraphs of pages that have them.
import { app } from '../../scripts/app.js'

export const rootGraph = () => app.rootGraph ?? app.graph

export const nodesOf = graph => graph.nodes ?? graph._nodes

/** The graph of the page, and every subgraph that is somewhere in it, once. */
export const allGraphs = () => [rootGraph(), ...(rootGraph().subgraphs?.values() ?? [])]

/** The block of an event, undefined where there is none; inside subgraphs its name is the way to it, as in '3:7'. */
export function blockOf(name) {
  const steps = String(name).split(':'), last = steps.pop()
  const graph = steps.reduce((graph, id) => graph?.getNodeById(id)?.subgraph, rootGraph())
  return graph?.getNodeById(last)
}
