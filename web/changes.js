import { app } from '../../scripts/app.js'
import { rootGraph } from './graphs.js'

/**
 * What our scripts put on a block is no change of the workflow. The page keeps two states of it to tell: as it was
 * loaded or saved, and as it was after the last step that can be undone. They get the size and the property as well.
 */
export function markUnchanged(node, property) {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker
  for (const state of [tracker?.activeState, tracker?.initialState]) {
    const graph = node.graph === rootGraph() ? state : state?.definitions?.subgraphs?.find(({ id }) => id === node.graph?.id)
    const kept = graph?.nodes?.find(({ id }) => String(id) === String(node.id))
    if (!kept) continue
    kept.size = [...node.size]
    if (property in node.properties) kept.properties = { ...kept.properties, [property]: node.properties[property] }
  }
}

// Runs `update(node)` whenever a widget of the node is changed, when the node is put into a graph, and when it gets the
// values of a workflow.
export function onChange(node, update) {
  for (const widget of node.widgets ?? []) {
    const changed = widget.callback
    widget.callback = function (...values) {
      const answer = changed?.apply(this, values)
      update(node)
      return answer
    }
  }
  for (const name of ['onAdded', 'onConfigure']) {
    const before = node[name]
    node[name] = function (...values) {
      const answer = before?.apply(this, values)
      update(node)
      return answer
    }
  }
}
