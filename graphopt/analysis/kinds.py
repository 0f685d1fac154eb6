"""Which kind of work an operator is, by name: what `graphopt.profile` has a table of seconds for."""

_NAMES = {
    # Some instructions an element: what counts are the bytes.
    "pointwise": """
        __and__ __lshift__ __or__ __rshift__ __xor__ _to_copy abs add addr bitwise_and
        bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp
        clamp_max clamp_min clip conj_physical deg2rad dist div divide dropout elu floor frac
        hardshrink hardsigmoid hardswish hardtanh huber_loss kron l1_loss leaky_relu lerp lift
        maximum minimum mse_loss mul nan_to_num neg outer positive prelu rad2deg reciprocal relu
        relu6 round rsub selu sgn sign smooth_l1_loss softshrink square sub subtract threshold to
        true_divide type_as where""",
    "compare": """
        addcdiv addcmul complex copysign eq ge gt heaviside isclose isinf isnan isneginf isposinf le
        logical_and logical_not logical_or logical_xor lt masked_fill ne rsqrt signbit sqrt trunc""",
    "copy": """
        _unsafe_view alias_copy atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors
        cartesian_prod cat channel_shuffle clone col2im column_stack contiguous copy detach_copy
        diag_embed dstack expand_copy flatten flip fliplr flipud hstack im2col lift_fresh_copy
        meshgrid narrow_copy permute_copy pixel_shuffle pixel_unshuffle ravel reshape reshape_as
        roll rot90 select_scatter slice_scatter split_with_sizes_copy stack t_copy tile
        transpose_copy unfold_copy unsqueeze_copy view_copy vstack""",
    "pad": "constant_pad_nd pad",
    "batch_norm": "_native_batch_norm_legit batch_norm native_batch_norm",
    "transpose": "repeat repeat_interleave tril triu",
    "fill": """
        arange bartlett_window blackman_window empty empty_like eye fill full full_like
        hamming_window hann_window kaiser_window linspace logspace new_empty new_full new_ones
        new_zeros ones ones_like scalar_tensor tril_indices triu_indices zero zeros zeros_like""",
    "exp": "binary_cross_entropy exp expm1 kl_div logaddexp2 logit special_entr",
    "tanh": "acosh asinh atan atanh mish tanh",
    "gelu": "exp2 gelu glu sigmoid silu",
    "erf": """
        binary_cross_entropy_with_logits cosh erf erfc erfinv i0 i1 isfinite log_sigmoid logaddexp
        sinh softplus special_erfcx special_ndtr""",
    "log": "log log10 log1p log2 xlogy",
    "pow": """
        atan2 float_power floor_divide fmax fmin fmod hypot ldexp polar pow remainder sinc""",
    "sin": "acos asin cos sin tan",
    "softmax": "_safe_softmax cross_entropy_loss log_softmax logsumexp nll_loss_nd softmax",
    "norm": """
        cosine_similarity group_norm instance_norm layer_norm native_layer_norm rms_norm""",
    "reduce": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d amax amin aminmax equal
        linalg_norm linalg_vector_norm max mean min nansum norm prod sum sum_to_size trace""",
    "scan": """
        all any argmax argmin count_nonzero cummax cummin cumprod cumsum logcumsumexp nanmean std
        std_mean var var_mean""",
    "pool": """
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d
        grid_sampler grid_sampler_2d max_pool1d max_pool1d_with_indices max_pool2d
        max_pool2d_with_indices max_pool3d max_pool3d_with_indices upsample_bicubic2d
        upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
        upsample_nearest3d upsample_trilinear3d""",
    "rows": "embedding embedding_bag index index_add index_copy index_select one_hot",
    "gather": """
        bincount bucketize gather histc index index_fill index_put isin masked_scatter masked_select
        nonzero put scatter scatter_add scatter_reduce searchsorted take take_along_dim""",
    "sort": "_unique2 argsort kthvalue median msort sort topk unique_consecutive unique_dim",
    "random": """
        alpha_dropout bernoulli exponential feature_alpha_dropout feature_dropout geometric
        multinomial normal poisson rand rand_like randint randint_like randn randn_like randperm
        uniform""",
}  # fmt: skip
_KIND = {name: kind for kind, names in _NAMES.items() for name in names.split()}

DEFAULT = "exp"
"""What an operator that is not listed is taken for."""


def kind_of(op: str) -> str:
    """The kind of an operator such as "aten.add.Tensor"; of an in-place one, that of the other."""
    name = op.split(".")[1] if op.count(".") else op
    return _KIND.get(name) or _KIND.get(name.removesuffix("_")) or DEFAULT
