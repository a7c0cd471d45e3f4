"""A small vision transformer (arXiv 2010.11929) whose modules are named as in a Llama decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.errors import UserError


class VisionTransformer(nn.Module):
    """Patches, a linear embedding with learned positions, pre-norm layers, and the mean over the patches as features.

    Args:
        image_size: height and width of an image in pixels.
        patch_size: height and width of a patch; it divides image_size.
        hidden_size: width of the layers.
        intermediate_size: width inside an MLP.
        num_hidden_layers: number of layers.
        num_attention_heads: heads of an attention; they divide hidden_size.
        num_labels: number of classes.

    Raises:
        UserError: for a size that does not divide.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        hidden_size: int,
        intermediate_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        num_labels: int,
    ) -> None:
        super().__init__()
        for name, whole, divisor in (
            ("patch_size", image_size, patch_size),
            ("num_attention_heads", hidden_size, num_attention_heads),
        ):
            if whole % divisor:
                raise UserError(f"model.architecture.{name}={divisor} is not possible: it must divide {whole}")
        self.patch_size = patch_size
        self.embed = PatchEmbedding(patch_size**2, (image_size // patch_size) ** 2, hidden_size)
        self.layers = nn.ModuleList(
            Layer(hidden_size, intermediate_size, num_attention_heads) for _ in range(num_hidden_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, num_labels)

    def get_input_embeddings(self) -> nn.Module:
        """As Hugging Face models name it."""
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        """As Hugging Face models name it."""
        return self.head

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of shape (images, num_labels) for pixels of shape (images, height, width)."""
        patches = F.unfold(pixels.unsqueeze(1), self.patch_size, stride=self.patch_size).mT
        hidden = self.embed(patches)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(self.norm(hidden).mean(dim=1))


class PatchEmbedding(nn.Module):
    """A linear map of every patch, plus what its position has learned."""

    def __init__(self, pixels: int, patches: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, pixels))
        self.positions = nn.Parameter(torch.empty(patches, width))
        nn.init.normal_(self.weight, std=pixels**-0.5)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, patches: Tensor) -> Tensor:
        """(images, patches, pixels) -> (images, patches, width)"""
        return F.linear(patches, self.weight) + self.positions


class Layer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(width)
        self.self_attn = Attention(width, heads)
        self.post_attention_layernorm = nn.LayerNorm(width)
        self.mlp = MLP(width, inner)

    def forward(self, hidden: Tensor) -> Tensor:
        """(images, patches, width) -> the same shape"""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden))
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Attention(nn.Module):
    """Every patch attends to every patch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden: Tensor) -> Tensor:
        """(images, patches, width) -> the same shape"""
        parts = (
            project(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear maps with SiLU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(images, patches, width) -> the same shape"""
        return self.down_proj(F.silu(self.up_proj(hidden)))
