"""fastai v1's modules and the public names of each: what a star import of it brought (release 1.0.61; and
``ImageItemList``, which earlier ones had).

These are facts about v1, for classification; whether onecycle has a name, and where, says ``sources.py``.
"""

from __future__ import annotations

from functools import cache

VERSION = "1.0.61"
"""The release whose names these are: ``fastai.__version__`` while the hook is on."""

OWN = {
    "basic_data": "DataBunch DatasetType DeviceDataLoader load_data",
    "basic_train": "Learner LearnerCallback RecordOnCPU Recorder fit get_preds load_learner loss_batch train_epoch "
    "validate",
    "basics": "callbacks doc",
    "callback": "AverageMetric Callback CallbackHandler CallbackList OptimWrapper Scheduler SmoothenValue "
    "annealing_cos annealing_exp annealing_linear annealing_no annealing_poly",
    "callbacks": "",
    "callbacks.csv_logger": "CSVLogger",
    "callbacks.flat_cos_anneal": "FlatCosAnnealScheduler",
    "callbacks.fp16": "MixedPrecision",
    "callbacks.general_sched": "GeneralScheduler TrainingPhase",
    "callbacks.hooks": "ActivationStats Hook HookCallback Hooks dummy_batch dummy_eval hook_output hook_outputs "
    "model_sizes model_summary num_features_model",
    "callbacks.loss_metrics": "LossMetrics",
    "callbacks.lr_finder": "LRFinder",
    "callbacks.mem": "PeakMemMetric",
    "callbacks.misc": "StopAfterNBatches",
    "callbacks.mixup": "MixUpCallback MixUpLoss",
    "callbacks.one_cycle": "OneCycleScheduler",
    "callbacks.oversampling": "OverSamplingCallback",
    "callbacks.tracker": "EarlyStoppingCallback ReduceLROnPlateauCallback SaveModelCallback TerminateOnNaNCallback "
    "TrackEpochCallback TrackerCallback",
    "core": "AnnealFunc ArgStar BatchSamples Category DataFrameOrChunks EmptyLabel FilePathList FloatItem Floats "
    "ImgLabel ImgLabels IntsOrStrs ItemBase KWArgs KeyFunc ListOrItem ListRules ListSizes MultiCategory NPArrayList "
    "NPArrayMask NPArrayableList NPImage OptDataFrame OptListOrItem OptRange OptStats OptStrList OptStrTuple PBar "
    "PathLikeOrBinaryStream PathOrStr Point Points PrePostInitMeta PrettyString Sizes SplitArrayList StartOptEnd "
    "StrList TfmList Tokens arange_of array arrays_split bunzip camel2snake chunks compose defaults df_names_to_idx "
    "download_url even_mults extract_kwargs find_classes first_el float_or_x func_args get_tmp_file has_arg idx_dict "
    "ifnone index_row is1d is_dict is_listy is_pathlike is_tuple join_path join_paths listify loadtxt_str noop "
    "num_cpus one_hot parallel partition partition_by_cores random_split range_of recurse recurse_eq save_texts "
    "series2cat show_some split_kwargs_by_func subplots text2html_table to_int uniqueify working_directory",
    "data_block": "CategoryList CategoryProcessor EmptyLabelList FloatList ItemList ItemLists LabelList LabelLists "
    "MixedItem MixedItemList MixedProcessor MultiCategoryList MultiCategoryProcessor PreProcessor get_files",
    "datasets": "Config URLs datapath4file download_data untar_data url2name url2path",
    "distributed": "DistributedRecorder DistributedTrainer read_metrics setup_distrib",
    "gen_doc": "",
    "gen_doc.nbdoc": "doc show_doc",
    "general_optimizer": "AvgSquare AvgStatistic ConstStatistic GeneralOptimizer StatScope Statistic",
    "imports": "",
    "imports.core": "Any AnyStr BufferedWriter BytesIO Callable Collection Counter DataFrame Dict Enum Hashable "
    "InitVar IntEnum Iterable Iterator List Mapping MasterBar NewType Number Optional OrderedDict PIL Patch Path "
    "ProcessPoolExecutor ProgressBar Sequence Series SimpleNamespace Sized ThreadPoolExecutor Tuple TypeVar Union abc "
    "abstractmethod abstractproperty array attrgetter bz2 collections concurrent contextmanager copy cos csv "
    "dataclass deepcopy defaultdict exp field functools gc gzip hashlib have_min_pkg_version html importlib inspect "
    "io itemgetter itertools json log master_bar math mimetypes namedtuple np numbers operator os partial patches "
    "patheffects pathlib pd pd_max_colwidth pickle pkg_resources plt progress_bar random re reduce requests scipy "
    "set_trace shutil sin subprocess sys tan tanh tarfile tempfile try_import typing warn warnings weakref yaml",
    "imports.torch": "BatchSampler ByteTensor DataLoader Dataset DoubleTensor F FloatTensor HalfTensor LongTensor "
    "Sampler ShortTensor Tensor TensorDataset as_tensor nn optim spectral_norm torch weight_norm",
    "layers": "AdaptiveConcatPool2d BCEFlat BCEWithLogitsFlat BatchNorm1dFlat CrossEntropyFlat Debugger Flatten "
    "FlattenedLoss LabelSmoothingCrossEntropy Lambda MSELossFlat MergeLayer NoopLoss NormType PartialLayer "
    "PixelShuffle_ICNR PoolFlatten PooledSelfAttention2d ResizeBatch SelfAttention SequentialEx SigmoidRange View "
    "WassersteinLoss batchnorm_2d bn_drop_lin conv2d conv2d_trans conv_layer embedding icnr relu res_block "
    "sigmoid_range simple_cnn trunc_normal_",
    "metrics": "AUROC ConfusionMatrix ExpRMSPE ExplainedVariance FBeta KappaScore MatthewsCorreff MultiLabelFbeta "
    "Perplexity Precision R2Score RMSE Recall accuracy accuracy_thresh auc_roc_score dice error_rate exp_rmspe "
    "explained_variance fbeta foreground_acc mae mean_absolute_error mean_squared_error "
    "mean_squared_logarithmic_error mse msle r2_score rmse roc_curve root_mean_squared_error top_k_accuracy",
    "script": "Param anno_parser call_parse call_plac",
    "torch_core": "AdamW AffineFunc AffineMatrix BoolOrTensor DistributedDataParallel FloatOrTensor HookFunc "
    "IntOrTensor ItemsList LambdaFunc LayerFunc LightingFunc LogitTensorImage LossFunction MetricFunc MetricFuncList "
    "MetricsList ModelOnCPU Module ModuleList NPArray NoneReduceOnCPU OptLossFunc OptMetrics OptOptimizer "
    "OptSplitFunc ParamList ParameterModule PixelFunc Rank0Tensor SplitFunc SplitFuncOrIdxList TensorImage "
    "TensorImageSize TensorOrNumList TensorOrNumber Tensors Weights add_metrics apply_init apply_leaf batch_to_half "
    "bias_types bn2float bn_types children children_and_parameters cond_init data_collate distrib_barrier "
    "fastai_types first_layer flatten_check flatten_model get_model get_param_groups grab_idx has_params in_channels "
    "init_default is_pool_type last_layer log_uniform logit logit_ model2half model_type no_wd_types np2model_tensor "
    "np_address np_func num_children num_distrib one_param rand_bool range_children rank_distrib remove_module_load "
    "requires_grad set_all_seed set_bn_eval split_model split_model_idx split_no_wd_params tensor to_cpu to_data "
    "to_detach to_device to_float to_half to_np trainable_params trange_of try_int try_save uniform uniform_int",
    "train": "AccumulateScheduler BnFreeze ClassificationInterpretation GradientClipping Interpretation "
    "MultiLabelClassificationInterpretation ShowGraph fit_fc fit_one_cycle lr_find mixup one_cycle_scheduler to_fp16 "
    "to_fp32",
    "utils": "",
    "utils.collect_env": "check_perf pillow_version show_install",
    "utils.ipython": "gpu_mem_restore gpu_mem_restore_ctx is_in_colab is_in_ipython",
    "utils.mem": "GPUMemTrace gpu_mem_get gpu_mem_get_all gpu_mem_get_free gpu_mem_get_free_no_cache "
    "gpu_mem_get_used gpu_mem_get_used_no_cache gpu_mem_trace gpu_with_max_free_mem reduce_mem_usage",
    "utils.mod_display": "progress_disabled_ctx",
    "version": "__version__",
    "vision": "models vision",
    "vision.data": "ImageDataBunch ImageImageList ImageItemList ImageList ObjectCategoryList ObjectItemList "
    "PointsItemList "
    "PointsLabelList SegmentationItemList SegmentationLabelList bb_pad_collate channel_view cifar_stats denormalize "
    "download_images get_annotations get_image_files imagenet_stats mnist_stats normalize normalize_funcs resize_to "
    "verify_images",
    "vision.image": "CoordFunc FlowField Image ImageBBox ImagePoints ImageSegment PIL RandTransform ResizeMethod "
    "TfmAffine TfmCoord TfmCrop TfmLighting TfmList TfmPixel Transform bb2hw image2np open_image open_mask "
    "open_mask_rle pil2tensor plot_flat plot_multi rle_decode rle_encode scale_flow show_all show_image show_multi "
    "tis2hw",
    "vision.interpret": "ObjectDetectionInterpretation SegmentationInterpretation",
    "vision.learner": "cnn_learner create_body create_cnn create_cnn_model create_head unet_learner",
    "vision.models": "Darknet ResNet SqueezeNet WideResNet XResNet alexnet densenet121 densenet161 densenet169 "
    "densenet201 mobilenet_v2 resnet101 resnet152 resnet18 resnet34 resnet50 squeezenet1_0 squeezenet1_1 vgg11_bn "
    "vgg13_bn vgg16_bn vgg19_bn wrn_22 xception xresnet101 xresnet152 xresnet18 xresnet18_deep xresnet34 "
    "xresnet34_deep xresnet50 xresnet50_deep",
    "vision.models.cadene_models": "dpn92 inceptionresnetv2 inceptionv4 nasnetamobile pnasnet5large se_resnet101 "
    "se_resnet50 se_resnext101_32x4d se_resnext50_32x4d senet154 xception_cadene",
    "vision.models.darknet": "Darknet ResLayer",
    "vision.models.efficientnet": "EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 "
    "EfficientNetB6 EfficientNetB7",
    "vision.models.presnet": "PResNet presnet101 presnet152 presnet18 presnet34 presnet50",
    "vision.models.wrn": "BasicBlock WideResNet wrn_22",
    "vision.models.xception": "xception",
    "vision.models.xresnet": "XResNet xresnet101 xresnet152 xresnet18 xresnet18_deep xresnet34 xresnet34_deep "
    "xresnet50 xresnet50_deep",
    "vision.transform": "brightness contrast crop crop_pad cutout dihedral dihedral_affine flip_affine flip_lr "
    "get_transforms jitter pad perspective_warp rand_crop rand_pad rand_resize_crop rand_zoom rgb_randomize rotate "
    "skew squish symmetric_warp tilt zoom zoom_crop",
    "vision.tta": "",
    "widgets": "",
    "widgets.class_confusion": "ClassConfusion",
    "widgets.image_cleaner": "DatasetFormatter ImageCleaner PredictionsCorrector",
    "widgets.image_downloader": "ImageDownloader download_google_images",
}
"""Each module below ``fastai`` with the names that it defined or was the first to bring."""

OF_OTHERS = {
    "": "basic_data basic_train basics callback callbacks core data_block datasets imports layers metrics "
    "torch_core train utils version vision",
    "basics": "basic_data basic_train callback core data_block datasets layers metrics torch_core train version",
    "callbacks": "callbacks.csv_logger callbacks.flat_cos_anneal callbacks.fp16 callbacks.general_sched "
    "callbacks.hooks callbacks.loss_metrics callbacks.lr_finder callbacks.mixup callbacks.one_cycle "
    "callbacks.oversampling callbacks.tracker",
    "core": "imports.core",
    "imports": "imports.core imports.torch",
    "torch_core": "core imports.torch",
    "utils": "utils.collect_env",
    "vision": "basics vision.data vision.image vision.learner vision.transform vision.tta",
    "widgets": "widgets.class_confusion widgets.image_cleaner widgets.image_downloader",
}
"""Modules whose star brings the stars of others, too; that of ``fastai`` itself brings its modules."""


@cache
def star(module: str) -> frozenset[str]:
    """Names that ``from fastai.<module> import *`` brought in v1.

    Args:
        module: path below ``fastai``; ``''`` for ``fastai`` itself.
    """
    others = OF_OTHERS.get(module, "").split()
    if not module:
        return frozenset(others)
    return frozenset(OWN[module].split()).union(*(star(other) for other in others))


@cache
def every_name() -> frozenset[str]:
    """Every public name of v1's part that classifies pictures."""
    return frozenset().union(*(star(module) for module in OWN))
