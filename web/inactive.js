// Widgets that have no effect beside what another one says look inactive.
import { app } from '../../scripts/app.js'
import { onChange } from './changes.js'
import { rootGraph } from './graphs.js'

const linear = values => values.linear
const zeroStar = values => values.guidance_rule === 'CFG-Zero*'

// block -> widget -> whether it is read
const READ = {
  PyramidVideoEmptyLatent: {
    seconds: values => values.length_unit === 'seconds',
    frames: values => values.length_unit === 'frames'
  },
  PyramidVideoGuidance: {
    video_scale: values => !values.linear, linear_drop: linear, linear_minimum: linear,
    coarse_guidance: values => values.guided_stages !== 1
  },
  PyramidVideoFlowSampler: { zero_steps: zeroStar },
  PyramidVideoStages: { shift: values => values.made_for !== 'Helios' || values.shift !== 1 }
}

function update(node) {
  const isShownHere = node.graph === rootGraph() // pages that show a widget on its subgraph lock that one for ever
  const values = Object.fromEntries(node.widgets.map(widget => [widget.name, widget.value]))
  const linked = new Set(node.inputs?.filter((input, slot) => input.widget && node.isInputConnected(slot)).map(input => input.widget.name))
  for (const [name, isRead] of Object.entries(READ[node.comfyClass])) {
    const widget = node.widgets.find(widget => widget.name === name)
    if (!widget || linked.has(name)) continue
    widget.disabled = isShownHere && !isRead(values)
    if (widget.options) widget.options.disabled = widget.disabled // the name that Vue nodes look at
  }
  node.setDirtyCanvas?.(true)
}

app.registerExtension({
  name: 'PyramidVideo.Inactive',
  nodeCreated(node) {
    if (!READ[node.comfyClass]) return
    onChange(node, update)
  }
})
