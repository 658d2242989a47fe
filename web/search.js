// Words that people search for. Older pages look at names only, and of a name at its first thirty letters; they get no
// aliases from their server. There the words stand behind the name in the list of blocks, and not on the block.
import { app } from '../../scripts/app.js'

const WORDS = {
  PyramidVideoLoadModel: 'image to video',
  PyramidVideoSampler: 't2v, text to video',
  PyramidVideoFlowSampler: 't2v, text to video',
  PyramidVideoDDIMSampler: 't2v, text to video',
  PyramidVideoGANSampler: 't2v, text to video',
  PyramidVideoHistory: 'i2v'
}

const suffix = type => ` (${WORDS[type]})`

app.registerExtension({
  name: 'PyramidVideo.Search',
  beforeRegisterVueAppNodeDefs(defs) {
    defs.forEach((def, place) => {
      if (WORDS[def.name] && !def.search_aliases)
        defs[place] = { ...def, display_name: def.display_name + suffix(def.name) }
    })
  },
  nodeCreated(node) {
    const type = node.comfyClass
    if (WORDS[type] && node.title?.endsWith(suffix(type))) node.title = node.title.slice(0, -suffix(type).length)
  }
})
