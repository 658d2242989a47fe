// Runs `update(node)` whenever a widget of the node is changed, and when the node gets the values of a workflow.
export function onChange(node, update) {
  for (const widget of node.widgets ?? []) {
    const changed = widget.callback
    widget.callback = function (...values) {
      const answer = changed?.apply(this, values)
      update(node)
      return answer
    }
  }
  const configured = node.onConfigure
  node.onConfigure = function (...values) {
    const answer = configured?.apply(this, values)
    update(node)
    return answer
  }
}
