// The order of our example workflows. ComfyUI lists them as the file system does; no page has a title or text for them.
import { api } from '../../scripts/api.js'

const ORDER = [
  'text_to_video', 'image_to_video', 'extend_clip', 'look_inside', 'compare_families', 'any_model_small',
  'text_to_video_flow', 'text_to_video_ddim', 'text_to_video_gan',
  'train_lora', 'use_lora', 'train_pyramid', 'train_flow', 'train_diffusion', 'train_gan', 'train_vae',
  'official_miniflux', 'official_sd3',
  'helios_text_to_video', 'helios_image_to_video', 'helios_video_to_video',
  'wan22_text_to_video', 'wan22_image_to_video', 'ltx2_text_to_video', 'hunyuan15_text_to_video',
  'minimax_h3_text_to_video', 'draft_then_finish', 'finish_a_clip'
]

const rank = name => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length)
const listed = api.getWorkflowTemplates.bind(api)

api.getWorkflowTemplates = async () => {
  const packs = await listed()
  for (const names of Object.values(packs))
    if (ORDER.slice(0, 4).every(name => names.includes(name))) names.sort((one, other) => rank(one) - rank(other))
  return packs
}
